"""What a reader finds in the files of a report."""

from __future__ import annotations

import csv
from html.parser import HTMLParser
from pathlib import Path

from markdown_it import MarkdownIt

from evaluation.report.write import ReportFiles


class Page(HTMLParser):
    """The elements of a page, their attributes, and its text without the style sheet."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.cells: list[list[str]] = []
        self._inside = ""
        self.feed(html)

    @property
    def text(self) -> str:
        return "".join(self.words)

    @property
    def line(self) -> str:
        """The text with one space wherever there is any, and between elements."""
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._inside = tag
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "tr":
            self.cells.append([])
        if tag in {"td", "th"} and self.cells:
            self.cells[-1].append("")

    def handle_data(self, data: str) -> None:
        if self._inside != "style":
            self.words.append(data)
        if self.cells and self.cells[-1]:
            self.cells[-1][-1] += f"{data} "


def page(files: ReportFiles) -> Page:
    return Page(files.html.read_text(encoding="utf-8"))


def rendered(files: ReportFiles) -> Page:
    """The Markdown as CommonMark with tables has it, HTML let through."""
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    return Page(parser.render(files.markdown.read_text(encoding="utf-8")))


def table(path: Path) -> list[dict[str, str]]:
    csv.field_size_limit(10_000_000)
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))
