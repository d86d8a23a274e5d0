"""A comparison for the terminal: the verdict first, then what it rests on."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence

from evaluation import wording
from evaluation.compare import notes
from evaluation.compare.comparison import Comparison, MetricComparison
from evaluation.compare.statistics import FEW, FEWEST, Estimate
from evaluation.compare.table import Table
from evaluation.metrics import METRICS, reading_order
from setup.common import console

Cells = Sequence[str]

_NAMED = 5  # ids of a list that are named
_HEADER = ["metric", "baseline", "candidate", "difference", "n", "won/same/lost", "p"]
_HEADER += ["detectable", ""]
_RIGHT = {4, 5, 6, 7}
_RIGHT_STACKED = {3}  # the verdict, and p below it
_GAP = "  "


def show(content: Comparison | Table) -> None:
    """Print a comparison, its table as wide as the console, or the numbers of one run."""
    width = console.out.width
    text = run_text(content) if isinstance(content, Table) else comparison_text(content, width)
    console.out.print(text, markup=False)


def run_text(table: Table) -> str:
    """Write the rows and the metrics of one run, with their intervals."""
    estimates = table.estimates
    rows = [
        [METRICS[name].label, wording.with_interval(estimate, METRICS[name]), _count(estimate)]
        for name, estimate in sorted(estimates.items(), key=lambda pair: reading_order(pair[0]))
    ]
    sentence = notes.why_undecided(table) if not table.deciding else ""
    if table.deciding:
        metric, estimate = METRICS[table.deciding], estimates[table.deciding]
        of = "" if estimate.n == table.answered else f" of {table.answered}"
        on = f"on {estimate.n}{of} rows{wording.few(estimate, ' (few)')}"
        sentence = f"{metric.label} {wording.with_interval(estimate, metric)} {on}"
    lines = [
        _rows(table),
        sentence,
        *(f"note: {note}" for note in [*notes.notes_of(table), *_few(estimates.values())]),
        "",
        *aligned([["metric", "mean", "n"], *rows], {2}),
    ]
    return "\n".join(lines)


def comparison_text(comparison: Comparison, width: int | None = None) -> str:
    """Write what ``python -m evaluation compare`` prints: sentence, rows, table, gaps, regressions.

    A metric is a line of about 130 characters, or lines that fit ``width``: nothing is left out.
    """
    names = comparison.baseline.name, comparison.candidate.name
    unscored = ", ".join(METRICS[name].label for name in comparison.not_scored)
    missing = comparison.missing(*names).items()
    lines = [
        wording.verdict_sentence(comparison),
        *(f"  {_rows(table)}" for table in comparison.tables),
        "",
        *_table([_cells(metric) for metric in comparison.scored], width),
        "",
        *([f"no row has a score of {unscored}"] if unscored else []),
        *(f"not compared, {why}: {_named(ids)}" for why, ids in missing),
        *(f"note: {note}" for note in comparison.notes),
        *(f"note: {note}" for note in _few(each.difference for each in comparison.scored)),
        *_regressions(comparison),
    ]
    return "\n".join(lines).rstrip()


def _count(estimate: Estimate) -> str:
    """The rows that an estimate is of, marked where they are few."""
    return f"{wording.few(estimate, 'few ')}{estimate.n}"


def _few(estimates: Iterable[Estimate]) -> list[str]:
    """The meaning of the mark, where one stands."""
    meaning = f"few: under {FEW} rows, whose intervals are rough; under {FEWEST} nothing can be"
    return [f"{meaning} better"] if any(estimate.few for estimate in estimates) else []


def _table(rows: list[list[str]], width: int | None) -> list[str]:
    """A line for each metric, or two of four columns where that is wider than ``width``."""
    lines = aligned([_HEADER, *rows], _RIGHT)
    if width is None or max(map(len, lines)) <= width:
        return lines
    return _stacked([_two_lines(cells) for cells in [_HEADER, *rows]], width)


def _two_lines(cells: list[str]) -> tuple[list[str], list[str]]:
    """Each figure of the candidate below the one it is read beside."""
    label, baseline, candidate, difference, n, won, p, detectable, verdict = cells
    return [label, baseline, candidate, verdict], [f"{n} {won}", difference, detectable, p]


def _cells(comparison: MetricComparison) -> list[str]:
    words = wording.ComparedWords(comparison, wording.TERMINAL)
    sides = [wording.with_interval(each, words.metric, words.digits) for each in words.estimates]
    difference = comparison.difference
    return [
        words.metric.label,
        *sides,
        wording.with_interval(difference, words.metric, words.digits, signs=True),
        _count(difference),
        words.record,
        "-"
        if comparison.p_value is None
        else re.sub("p (= )?", "", words.p_value).replace(" ", ""),
        words.detectable,
        "" if words.verdict == "no difference shown" else words.verdict,
    ]


def aligned(rows: Sequence[Cells], right: Container[int] = ()) -> list[str]:
    """Lines of columns as wide as their widest cell; those numbered in ``right`` end together."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    places = [str.rjust if column in right else str.ljust for column in range(len(widths))]
    return [
        _GAP.join(
            place(cell, width) for place, cell, width in zip(places, row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def _stacked(rows: Sequence[tuple[Cells, Cells]], width: int) -> list[str]:
    """Lines of rows of two lines, the second indented, both in the same columns.

    Where that is wider than ``width``, both first cells of a row stand on a line before the others.
    """
    both = [row for up, low in rows for row in (up, [_GAP + low[0], *low[1:]])]
    lines = aligned(both, _RIGHT_STACKED)
    if max(map(len, lines)) <= width:
        return lines
    rest = aligned([["", *cells[1:]] for row in rows for cells in row], _RIGHT_STACKED)
    names = (f"{upper[0]}{_GAP}{lower[0]}" for upper, lower in rows)
    named = zip(names, rest[::2], rest[1::2], strict=True)
    return [line for name, *two in named for line in (name, *two)]


def _rows(table: Table) -> str:
    counts = " ".join(f"{name}={count}" for name, count in table.counts.items())
    return f"{table.run.name}: {counts}"


def _regressions(comparison: Comparison) -> list[str]:
    primary = comparison.metric(comparison.primary)
    if primary is None or primary.losses is None:
        return []
    named = f": {_named(comparison.worst, primary.losses)}" if primary.losses else ""
    label = METRICS[primary.metric].label
    lines = [f"{primary.losses} of {primary.difference.n} rows worse on {label}{named}"]
    lost = "; ".join(comparison.general_lost[:_NAMED])
    return [*lines, *([f"general questions lost, among others: {lost}"] if lost else [])]


def _named(ids: list[str], count: int = 0) -> str:
    count = count or len(ids)
    rest = f", and {count - _NAMED:,} more" if count > _NAMED else ""
    return ", ".join(_short(row_id) for row_id in ids[:_NAMED]) + rest


def _short(row_id: str) -> str:
    """Twelve digits of a hash are enough; a name of the user's own is shown whole."""
    return f"{row_id[:12]}…" if re.fullmatch(r"[0-9a-f]{16,}", row_id) else row_id
