"""Reports of runs written by hand, one of them by a model that wants to break the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from evaluation.compare.compare import compare_runs
from evaluation.gate import GateResult
from evaluation.report.write import ReportFiles, write_report
from evaluation.results import Row, RunFolder
from tests.evaluation.made_runs import lost_row, made_row, made_run

_AS_IT_IS = {
    "script": "<script>window.pwned = 1</script>",
    "image": "<img src=x onerror=window.pwned=1>",
    "end of style": "</style><svg onload=window.pwned=1>",
    "end of pre": "</pre></details><h1>Approved</h1>",
    "attribute": "\"' autofocus onfocus=window.pwned=1",
    "template": "{{ report }}{% raw %}",
    "markdown": "| a | b |\n# **x** `y` [z](//e.org)",
    "mention": "@octocat see #1 and www.e.org",
    "fence": "```\n</pre>\n~~~",
    "entity": "&lt;b&gt; &#60;i&#62;",
    "formula": "=HYPERLINK(A1)",
}
# What a model may write, and what a reader must see of it.
HOSTILE = {name: (text, text) for name, text in _AS_IT_IS.items()} | {
    "override": ("price \u202e001", "price [U+202E]001"),
    "null": ("nothing\0here", "nothing␀here"),
    "hidden words": ("a\U000e0041\u200bb", "a[U+E0041][U+200B]b"),
}
GATES = (
    GateResult("fact_recall at_least 0.5", True, "0.6 [0.5, 0.7], n=9"),
    GateResult("rows_at_least 80 <script>|", False, "n=9 | **ok**"),
)


def scored(value: float) -> dict[str, float | None]:
    """Scores of a row whose answer is worth ``value``, of 1."""
    return {
        "fact_recall": value,
        "declined": float(value > 0.5),
        "bleu": 90 * value,
        "judge_correctness": 1 + round(4 * value),
        "latency_seconds": 2.5 - value,
        "answer_words": 7.0,
    }


def report_of(
    folder: Path, baseline: RunFolder, candidate: RunFolder, gates: tuple[GateResult, ...] = ()
) -> ReportFiles:
    """Compare and report, as the command line does."""
    comparison = compare_runs(baseline, candidate, resamples=200)
    return write_report(folder, comparison, gates)


def hostile_runs(folder: Path) -> tuple[RunFolder, RunFolder]:
    """A baseline that was always right, and a candidate that answers with ``HOSTILE``."""
    rows = [made_row(f"row {name}", scored(1.0)) for name in HOSTILE]
    baseline = made_run(folder, "evil/phi-base", [*rows, lost_row("lost <b>")])
    candidate = made_run(folder, "evil/phi-<b>|tuned", _hostile_rows())
    return baseline, candidate


def _hostile_rows() -> Iterator[Row]:
    turn = [{"inputs": {"question": "<b>Before?</b>"}, "outputs": {"answer": "</dl>Yes."}}]
    for name, (text, _) in HOSTILE.items():
        yield made_row(
            f"row {name}",
            scored(0.0),
            answer=text,
            question="What of <i>this</i>?",
            facts=[text],
            category=text,
            chat_history=turn,
            reasons={"judge <u>": text},
        )
    error = {"type": "Evil<b>Error", "message": "|<script>window.pwned = 1</script>"}
    yield made_row("lost <b>", error=error)


def ordinary_runs(folder: Path, rows: int = 60) -> tuple[RunFolder, RunFolder]:
    """A baseline that is right one time in five, and a candidate that is four times in five.

    Of general questions the candidate has forgotten a third.
    """
    base = [_ordinary(index, index % 5 == 0) for index in range(rows)]
    tuned = [_ordinary(index, index % 5 != 0) for index in range(rows)]
    tuned[3] = lost_row("row 3")
    known = [float(number % 8 > 0) for number in range(150)]
    kept = [float(number % 8 > 0 and number % 3 > 0) for number in range(150)]
    return (
        made_run(folder, "first/phi-base", base, general=known),
        made_run(folder, "first/phi-tuned", tuned, general=kept),
    )


def _ordinary(index: int, right: bool) -> Row:
    history = [{"inputs": {"question": "Hello?"}, "outputs": {"answer": "Hello, what is it?"}}]
    return made_row(
        f"row {index}",
        scored(1.0 if right else (index % 3) / 8),
        question=f"How long is the warranty of the lamp number {index}?",
        answer="The warranty is two years." if right else "I am sorry, I do not know that lamp.",
        facts=["two years"],
        category="products",
        chat_history=history if index % 4 == 0 else [],
        reasons={"judge": "It says how long." if right else "It says nothing of the warranty."},
    )
