"""Rows of a user's own: the headline is of what they carry, everywhere a person looks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluation.compare.compare import compare_runs
from evaluation.compare.comparison import Comparison
from evaluation.compare.table import read_table
from evaluation.report.terminal import show
from evaluation.report.write import ReportFiles, write_report
from evaluation.wording import verdict_sentence
from setup.common import console
from tests.evaluation.chat import ChatServer, question_row
from tests.evaluation.conftest import Machine, connect
from tests.evaluation.made_reports import report_of
from tests.evaluation.made_runs import made_row, made_run
from tests.evaluation.read_reports import page

Scores = dict[str, float | None]
Compared = Callable[[list[Scores]], tuple[Comparison, ReportFiles, ReportFiles, str]]

REFERENCE: Scores = {"f1": 0.5, "rouge_l": 0.5, "bleu": 9.0}
COSTS: Scores = {"latency_seconds": 1.0, "answer_words": 7.0}
NOTHING: Scores = {"fact_recall": None, "declined": None, "over_declined": None, "f1": None}


@pytest.fixture
def compared(tmp_path: Path) -> Compared:
    """Two runs of rows with these scores: comparison, both reports, what the terminal shows."""

    def make(scores: list[Scores]) -> tuple[Comparison, ReportFiles, ReportFiles, str]:
        rows = [made_row(f"r{number}", each) for number, each in enumerate(scores)]
        runs = made_run(tmp_path, "own/base", rows), made_run(tmp_path, "own/tuned", rows)
        with console.out.capture() as printed:
            show(read_table(runs[1]))
        both = report_of(tmp_path / "both", *runs)
        return compare_runs(*runs), both, write_report(tmp_path, read_table(runs[1])), printed.get()

    return make


def rows(count: int, of: int, some: Scores, every: Scores | None = None) -> list[Scores]:
    """``of`` rows, the first ``count`` of which have ``some`` as well."""
    whole = NOTHING | (every or {}) | COSTS
    return [whole | (some if number < count else {}) for number in range(of)]


@pytest.mark.parametrize(
    ("scores", "label"),
    [
        (rows(10, 10, REFERENCE), "F1"),
        (rows(2, 50, {"fact_recall": 1.0}, REFERENCE), "F1"),
        (rows(25, 50, {"fact_recall": 1.0}, REFERENCE), "fact recall"),
        (rows(3, 50, REFERENCE), "F1"),
        (rows(40, 50, {"over_declined": 0.0}, {}), "declined where it must not"),
        (rows(30, 50, {"declined": 1.0}, {}), "declined where it must"),
        (rows(9, 9, {"judge_correctness": 4.0}), "correctness, judged"),
    ],
)
def test_the_headline_is_of_a_metric_that_the_rows_have(
    compared: Compared, scores: list[Scores], label: str
) -> None:
    comparison, both, single, printed = compared(scores)
    assert f" on {label}: " in verdict_sentence(comparison)
    assert page(both).text.count(f" on {label}\n") == 1
    assert f"tuned: {label} " in page(single).line
    assert f"### tuned: {label} " in single.markdown.read_text(encoding="utf-8")
    assert printed.splitlines()[1].startswith(f"{label} ")
    assert " on 0 rows" not in page(single).line


@pytest.mark.parametrize("scores", [rows(0, 4, {}), [{}, {}], [COSTS, COSTS]])
def test_where_nothing_can_be_scored_the_headline_says_so(
    compared: Compared, scores: list[Scores]
) -> None:
    why = "no answer can be scored: no row has ground_truth, facts or must_decline"
    comparison, both, single, printed = compared(scores)
    assert (comparison.primary, comparison.undecided) == ("", why)
    assert verdict_sentence(comparison) == f"own/tuned against own/base: {why}"
    assert why[3:] in page(both).text
    assert why[3:] in page(single).text
    assert why in printed.splitlines()[1]


def test_runs_that_share_no_metric_name_what_each_has(tmp_path: Path) -> None:
    runs = [
        made_run(tmp_path, f"own/{name}", [made_row("1", scores | COSTS), made_row("2", COSTS)])
        for name, scores in (("base", REFERENCE), ("tuned", {"judge_correctness": 3.0}))
    ]
    sentence = verdict_sentence(compare_runs(*runs))
    assert sentence.endswith(
        "they share no metric: own/base has F1, ROUGE-L, BLEU; own/tuned has correctness, judged"
    )


def test_own_rows_from_the_question_to_the_gate(machine: Machine, chat: ChatServer) -> None:
    connect("other", chat)
    truths = {f"What is number {n}?": f"The number is {n}." for n in range(10)}
    said = iter(["I think so, yes.", *["No idea, sorry."] * 9, *truths.values()])
    chat.answer = lambda _: next(said)
    data = [{"question": q, "ground_truth": truth} for q, truth in truths.items()]
    options = ["--data", str(machine.data(data)), "--name", "own", "--workers", "1"]
    done = machine.run("run", "one", "other", *options)
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[0]
    assert first.startswith("own/other is better than own/one on F1: 0.00 -> 1.00, +1.00 [")
    assert "no row has a score of fact recall, declined where it must, declined" in done.stdout
    for name in ("report.html", "report.md"):
        text = (machine.home / "runs/own" / name).read_text(encoding="utf-8")
        assert "other is better than one on F1" in text
    assert "F1 1.00 [0.72, 1.00] on 10 rows" in machine.run("report", "own/other").stdout
    assert "F1 1.00" in machine.run("list").stdout
    gated = machine.run("gate", "own/other")
    assert gated.returncode == 3
    assert (
        "note: 3 gates are of metrics that no row has. Copy evaluation/gates.yaml" in gated.stdout
    )
    assert machine.rows("own/one")[0]["must_decline"] is None


@pytest.mark.parametrize(
    ("columns", "scored"),
    [
        ({"must_decline": False}, {"over_declined": 1}),
        ({"must_decline": True, "ground_truth": ""}, {"declined": 1}),
        ({}, {}),
    ],
)
def test_declining_is_scored_where_a_row_speaks_of_it(
    machine: Machine, chat: ChatServer, columns: dict[str, Any], scored: dict[str, int]
) -> None:
    chat.answer = lambda _: "I'm sorry, but I can't help with that."
    data = str(machine.data([question_row(1, **columns)]))
    assert machine.run("run", "one", "--data", data, "--name", "said").returncode == 0
    (row,) = machine.rows("said/one")
    declining = {name: row["scores"][name] for name in ("declined", "over_declined")}
    assert {name: value for name, value in declining.items() if value is not None} == scored


def test_safety_wants_every_row_to_say_what_must_be_declined(
    machine: Machine, chat: ChatServer
) -> None:
    data = str(machine.data([question_row(1, must_decline=True), question_row(2)]))
    done = machine.run("run", "one", "--data", data, "--evaluator", "safety")
    assert done.returncode == 1
    assert "row row-2 does not say must_decline" in done.stderr
    assert "(1 of 2 rows)" in done.stderr
    assert not chat.rows_asked
