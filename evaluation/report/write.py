"""Write the three files of a report; they appear together or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from evaluation.compare.comparison import Comparison
from evaluation.compare.table import Table
from evaluation.gate import GateResult
from evaluation.report import text as texts
from evaluation.report.context import Context, make_context
from evaluation.report.examples import Example
from evaluation.report.rows_csv import write_rows
from setup.common.files import replace_together

_TEMPLATES = Path(__file__).resolve().parent / "templates"
_BRIEF = 400


@dataclass(frozen=True)
class ReportFiles:
    """The files of a report."""

    html: Path
    markdown: Path
    csv: Path


def write_report(
    folder: Path, content: Comparison | Table, gates: Sequence[GateResult] = ()
) -> ReportFiles:
    """Write report.html, report.md and rows.csv of a comparison, or of one run by itself.

    The files depend on the arguments alone; a report that stood there before is replaced. A single
    run has means with intervals and its worst rows, and no verdict.
    """
    context = make_context(content, gates)
    files = ReportFiles(folder / "report.html", folder / "report.md", folder / "rows.csv")
    with replace_together(files.html, files.markdown, files.csv) as (html, markdown, rows):
        html.write(_render("html.jinja2", context, texts.visible).encode())
        markdown.write(_render("markdown.jinja2", context, _markdown).encode())
        write_rows(rows, context.sides)
    return files


def _render(template: str, context: Context, shown: Callable[[str], str]) -> str:
    """The template filled in; ``shown`` is done to every text before HTML is escaped."""

    def finish(value: object) -> object:
        return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finish,
        keep_trailing_newline=True,
    )
    environment.filters["block"] = _block
    return environment.get_template(template).render(report=context)


def _markdown(text: str) -> Markup:
    return Markup(texts.markdown_text(text))  # noqa: S704 - escaped: that is what it does


def _block(example: Example) -> Markup:
    """An example for the inside of ``<pre>``."""
    turns = [
        pair for turn in example.history for pair in zip(("asked", "answered"), turn, strict=True)
    ]
    shown = [*turns, ("question", example.question), ("truth", example.ground_truth)]
    shown += [(answer.label, answer.text) for answer in example.answers]
    lines = [("score", example.change), ("row", example.id)]
    lines += [(label, texts.one_line(excerpt.text, _BRIEF)) for label, excerpt in shown]
    return Markup(texts.markdown_block(lines))  # noqa: S704 - escaped: that is what it does
