"""Prepared data in the terminal: a table of sentences, bars, conversations with marked tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from setup.finetune.inspect.pieces import Piece
from setup.finetune.inspect.sentences import Chart, Part, bin_label, heading
from setup.finetune.inspect.tokens import Rendering

_WIDEST = 80
_BAR = 40
_NAMES = 13  # the longest name of a subject
_TRAINED, _STOP, _SPECIAL = "green", "bold green reverse", "dim"
_LEGEND = "What is trained is {how}: the answers, each with its stop token"
_LINE_BREAK = "\u21b5"  # shown where a line ends, for it is a token, too


def print_parts(console: Console, parts: Sequence[Part]) -> None:
    """Print each subject with its sentences, examples below them."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True, min_width=_NAMES)
    table.add_column(overflow="fold")
    for part in parts:
        examples = [example.replace("\n", "\n  ") for example in part.examples]
        told = [*part.lines, *(f"- {example}" for example in examples)]
        for number, line in enumerate(told):
            table.add_row("" if number else part.name, Text(line))
    console.print(table, soft_wrap=False, width=min(console.width, _WIDEST))


def print_chart(console: Console, chart: Chart) -> None:
    """Print a histogram as bars."""
    block = "█" if console.encoding.lower().startswith("utf") else "#"
    most = max(bin_.rows for bin_ in chart.bins)
    labels = [bin_label(bin_) for bin_ in chart.bins]
    width = max(map(len, labels))
    console.print(Text(f"\n{chart.title}", style="bold"))
    for label, bin_ in zip(labels, chart.bins, strict=True):
        length = -(-bin_.rows * _BAR // most)
        console.print(Text(f"  {label:>{width}}  {block * length} {bin_.rows:,}".rstrip()))


def print_renderings(console: Console, renderings: Iterable[Rendering]) -> None:
    """Print conversations as they will be trained."""
    marked = console.is_terminal and not console.is_dumb_terminal
    coloured = marked and not console.no_color and console.color_system is not None
    how = "green" if coloured else "underlined" if marked else "underlined with ~"
    console.print(Text(_LEGEND.format(how=how), style="dim"))
    for made in renderings:
        console.print(Text(f"\n{heading(made)}", style="bold"))
        if marked:
            console.print(_styled(made.pieces, coloured))
        else:
            for line in _underlined(made.pieces):
                console.print(line, markup=False)


def _styled(pieces: Sequence[Piece], coloured: bool) -> Text:
    text = Text()
    for piece in pieces:
        style = _SPECIAL if piece.special else ""
        if piece.trained:
            style = (_STOP if piece.stop else _TRAINED) if coloured else "underline"
        text.append(piece.text.replace("\n", f"{_LINE_BREAK}\n"), style)
    return text


def _underlined(pieces: Sequence[Piece]) -> Iterable[str]:
    """Lines of text, each with one below it that marks what is trained."""
    line, marks, width = "", "", 0
    for piece in pieces:
        for character in piece.text:
            shown = _LINE_BREAK if character == "\n" else character
            cells = cell_len(shown)
            if width + cells > _WIDEST:
                yield from filter(None, (line, marks.rstrip()))
                line, marks, width = "", "", 0
            line, width = line + shown, width + cells
            marks += ("~" if piece.trained else " ") * cells
            if character == "\n":
                yield from filter(None, (line, marks.rstrip()))
                line, marks, width = "", "", 0
    yield from filter(None, (line, marks.rstrip()))
