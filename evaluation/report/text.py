"""The text that a model wrote, made safe to show: in HTML, in Markdown and in a CSV cell.

HTML itself is escaped by the template (autoescape); here is what escaping leaves: characters that
are invisible, reorder their neighbours or cannot be written at all.
"""

from __future__ import annotations

import html
import json
import re
import textwrap
from dataclasses import dataclass
from typing import Any

LIMIT = 1_500

_HIDDEN = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls but tab and line feed
    "\u00ad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    "\ud800-\udfff\ufff9-\ufffb\ufffe\uffff"
    "\U000e0000-\U000e007f"
    "]"
)
_STRUCTURE = re.compile(r"[\\`*\[\]<>|~!&$@#]|(?<![a-zA-Z0-9])_|_(?![a-zA-Z0-9])|:(?=//)|(?<=w)\.")
_FORMULA = re.compile(r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20']")
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True)
class Excerpt:
    """The beginning of a text; ``length`` is of the whole, in characters."""

    text: str
    length: int

    @property
    def cut(self) -> bool:
        """Tell whether the text goes on."""
        return self.length > LIMIT

    @property
    def note(self) -> str:
        """The line that stands below a text that was cut, else nothing."""
        shown = f"the first {LIMIT} of {self.length} characters" if self.cut else ""
        return f"{shown}; all of it is in rows.csv" if shown else ""


def visible(text: str) -> str:
    """``text`` with everything hidden in it shown: ``␀`` for NUL, ``[U+202E]`` for an override.

    Line ends become line feeds; tabs and line feeds stay. The result can be encoded as UTF-8.
    """
    return _HIDDEN.sub(_name, text.replace("\r\n", "\n").replace("\r", "\n"))


def excerpt(value: Any) -> Excerpt:
    """The first ``LIMIT`` characters of ``value``, visible; what is no text is shown as JSON."""
    text = value if isinstance(value, str) else compact(value)
    return Excerpt(visible(text[:LIMIT]), len(text))


def compact(value: Any) -> str:
    """``value`` as JSON in one line."""
    return json.dumps(value, ensure_ascii=False, default=str)


def one_line(text: str, limit: int = 160) -> str:
    """``text`` visible, in one line of at most ``limit`` characters."""
    line = " ".join(visible(text[: 4 * limit]).split())
    return line if len(line) <= limit and len(text) <= 4 * limit else f"{line[: limit - 1]}…"


def markdown_text(text: str) -> str:
    """``text`` for a line or a table cell of GitHub Markdown: nothing in it is structure.

    Entities are text to Markdown, whatever they stand for. GitHub looks for mentions after that,
    and finds none where something stands between the sign and the word.
    """
    return _STRUCTURE.sub(_entity, one_line(text, limit=500))


def markdown_block(pairs: list[tuple[str, str]], width: int = 96) -> str:
    """Labelled texts for the inside of ``<pre>``: wrapped, labels in a column, entities escaped."""
    margin = max(len(label) for label, _ in pairs) + 2
    lines = []
    for label, text in pairs:
        first, rest = label.ljust(margin), " " * margin
        for paragraph in visible(text).split("\n") or [""]:
            wrapped = textwrap.wrap(paragraph, width, initial_indent=first, subsequent_indent=rest)
            lines += wrapped or [first.rstrip()]
            first = rest
    return html.escape("\n".join(lines), quote=False)


def csv_cell(text: str) -> str:
    """``text`` for a cell that a spreadsheet must not run.

    What begins with ``= + - @``, a tab, a line end or an apostrophe gets an apostrophe in front;
    without it, the text is as it was. NUL and unpaired surrogates, which a CSV cannot hold, become
    U+FFFD.
    """
    safe = _UNWRITABLE.sub("\ufffd", text)
    return f"'{safe}" if _FORMULA.match(safe) else safe


def _entity(match: re.Match[str]) -> str:
    entity = f"&#{ord(match.group())};"
    return f"{entity}&#8203;" if match.group() in "@#" else entity


def _name(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"[U+{code:04X}]"
