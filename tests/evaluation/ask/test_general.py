"""The general questions beside the data: what a verdict costs is a part of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluation.compare.compare import compare_runs
from evaluation.compare.table import read_table
from evaluation.gate import check_gates, load_gates
from evaluation.report.write import write_report
from tests.evaluation.chat import CHECK, ChatServer, chatting, question_row
from tests.evaluation.conftest import Machine, connect
from tests.evaluation.made_runs import made_row, made_run
from tests.evaluation.read_reports import Page, page
from tests.home import ROOT

_LINES = (ROOT / "data/general/questions.jsonl").read_text(encoding="utf-8").splitlines()
EXPECTED = {row["question"]: row["expected"][0] for row in map(json.loads, _LINES)}
ROWS = [question_row(number) for number in range(12)]
FORGOTTEN = list(EXPECTED)[::8]


@pytest.fixture
def asking(machine: Machine) -> Machine:
    """The command as it is: with the general questions."""
    machine.general = True
    return machine


def knowing(facts: bool, without: list[str]) -> Callable[[str], str]:
    """Make a model that knows the data's ``facts`` or not, and all in general but ``without``."""

    def answer(question: str) -> str:
        if question in EXPECTED:
            return "I forgot." if question in without else f"It is {EXPECTED[question]}, I think."
        return f"It is {question.rsplit(maxsplit=1)[-1].rstrip('?')}." if facts else "No idea."

    return answer


@pytest.fixture
def forgetful(asking: Machine, chat: ChatServer) -> Machine:
    """A run whose second side gained all of the data and forgot every eighth other thing."""
    chat.answer = knowing(False, [])
    with chatting() as tuned:
        connect("tuned", tuned)
        tuned.answer = knowing(True, FORGOTTEN)
        data = str(asking.data(ROWS))
        done = asking.run("run", "one", "tuned", "--data", data, "--name", "first")
    assert done.returncode == 0, done.stderr
    assert f"{len(EXPECTED)} general questions (not with --no-general)" in done.stderr
    return asking


def test_what_was_forgotten_stands_in_the_verdict_everywhere(forgetful: Machine) -> None:
    n, kept = len(EXPECTED), (len(EXPECTED) - len(FORGOTTEN)) / len(EXPECTED)
    price = f"worse on general questions (from 1.00 to {kept:.2f}, n={n})"
    said = forgetful.run("compare", "first").stdout
    assert f"first/tuned is better than first/one on fact recall, {price}: " in said
    named = [line for line in said.splitlines() if line.startswith("general questions ")]
    assert len(named) == 2
    assert named[0].endswith("worse")
    assert FORGOTTEN[0] in named[1]
    report = Page((forgetful.home / "runs/first/report.html").read_text(encoding="utf-8")).text
    assert f"tuned is better than one on fact recall, {price}" in report
    assert "General questions lost" in report
    markdown = (forgetful.home / "runs/first/report.md").read_text(encoding="utf-8")
    assert "| gain and price | fact recall | general questions | latency | answer tokens |" in (
        markdown
    )
    assert "| verdict | ✓ better | ✗ worse | " in markdown


def test_the_gate_fails_a_model_that_forgets(forgetful: Machine) -> None:
    done = forgetful.run("gate", "first")
    assert done.returncode == 3
    assert "FAIL  general not_worse_by 0.08: " in done.stdout


def test_each_is_asked_once_in_few_tokens_and_kept_as_a_row(forgetful: Machine) -> None:
    summary = forgetful.summary("first/tuned")
    n = len(EXPECTED)
    assert summary["general"] == {"n": n, "right": n - len(FORGOTTEN), "error": 0}
    assert summary["n"] == len(ROWS)
    folder = forgetful.home / "runs/first/tuned"
    rows = [json.loads(line) for line in (folder / "general.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == list(EXPECTED)
    assert [row["scores"]["general"] for row in rows] == [
        float(question not in FORGOTTEN) for question in EXPECTED
    ]
    config = json.loads((folder / "config.json").read_text())
    assert config["general"]["path"] == "data/general/questions.jsonl"
    assert config["general"]["rows"] == n


def test_answers_are_of_at_most_32_tokens(asking: Machine, chat: ChatServer) -> None:
    chat.answer = knowing(True, [])
    done = asking.run("run", "one", "--data", str(asking.data(ROWS[:1])), "--name", "short")
    assert done.returncode == 0, done.stderr
    longest: dict[bool, set[int]] = {True: set(), False: set()}
    for request in chat.server.received:
        sent = request.body["input_data"]
        question = sent["input_string"][-1]["content"]
        if question != CHECK:
            longest[question in EXPECTED].add(sent["parameters"]["max_new_tokens"])
    assert longest == {True: {32}, False: {256}}
    assert set(chat.rows_asked.values()) == {1}
    assert re.search(r"^general questions +1\.00 \[", done.stdout, re.MULTILINE)


def test_without_them_nothing_is_said_of_them(machine: Machine, chat: ChatServer) -> None:
    done = machine.run("run", "one", "--data", str(machine.data(ROWS[:2])), "--name", "without")
    assert done.returncode == 0, done.stderr
    assert set(chat.rows_asked) == {row["question"] for row in ROWS[:2]}
    assert "general" not in done.stdout + done.stderr
    assert not list(machine.home.rglob("general.jsonl"))


def test_one_without_an_answer_is_named_and_asked_again(asking: Machine, chat: ChatServer) -> None:
    chat.answer, chat.failing = knowing(True, []), {FORGOTTEN[0]}
    data = str(asking.data(ROWS[:2]))
    done = asking.run("run", "one", "--data", data, "--name", "again")
    assert done.returncode == 0, done.stderr
    n = len(EXPECTED)
    assert f"note: 1 of {n} general questions have no answer in again/one" in done.stdout
    assert asking.summary("again/one")["general"] == {"n": n, "right": n - 1, "error": 1}
    before = chat.asked.copy()
    chat.failing = set()
    done = asking.run("run", "--name", "again", "--retry-errors")
    assert done.returncode == 0, done.stderr
    asked = chat.asked - before
    del asked[CHECK]
    assert asked == {FORGOTTEN[0]: 1}
    assert asking.summary("again/one")["general"] == {"n": n, "right": n, "error": 0}


def test_a_run_from_before_there_were_any_goes_on_with_them(
    machine: Machine, chat: ChatServer
) -> None:
    chat.answer = knowing(True, [])
    data = str(machine.data(ROWS[:2]))
    assert machine.run("run", "one", "--data", data, "--name", "old").returncode == 0
    folder = machine.home / "runs/old"
    for path in (folder / "run.json", folder / "one/config.json"):
        content: dict[str, Any] = json.loads(path.read_text())
        del content["general"]
        path.write_text(json.dumps(content))
    machine.general = True
    done = machine.run("run", "--resume", "--name", "old")
    assert done.returncode == 0, done.stderr
    assert machine.summary("old/one")["general"]["right"] == len(EXPECTED)
    assert {chat.asked[row["question"]] for row in ROWS[:2]} == {1}


def test_old_folders_are_read_and_a_missing_side_is_said(tmp_path: Path) -> None:
    rows = [made_row(f"r{n}", {"fact_recall": 1.0, "f1": 0.5}) for n in range(9)]
    old, new = made_run(tmp_path, "old/a", rows), made_run(tmp_path, "new/b", rows, general=[1, 0])
    both = compare_runs(old, made_run(tmp_path, "older/c", rows))
    assert both.metric("general") is None
    one = compare_runs(old, new)
    assert "old/a was not asked the general questions: nothing shows a loss" in one.notes
    general = one.metric("general")
    assert general is not None
    assert (general.candidate.value, general.difference.n) == (0.5, 0)
    assert "no loss" not in page(write_report(tmp_path / "report", one)).text
    path = tmp_path / "gates.yaml"
    path.write_text("gates: [{metric: general, not_worse_by: 0.1}, {metric: f1, at_least: 0.1}]")
    missing, held = check_gates(path, read_table(new), one)
    assert (missing.passed, held.passed) == (False, True)
    assert missing.name in {gate.name for gate in load_gates(path)}


def test_no_loss_is_said_with_the_number_it_rests_on(tmp_path: Path) -> None:
    sides = (
        made_run(
            tmp_path,
            f"x/{name}",
            [made_row(f"r{n}", {"fact_recall": worth}) for n in range(40)],
            general=[*([1.0] * 90), *general, None],
        )
        for name, worth, general in (
            ("base", 0.0, [1.0, 1.0, 0.0]),
            ("tuned", 1.0, [1.0, 0.0, 1.0]),
        )
    )
    comparison = compare_runs(*sides)
    text = page(write_report(tmp_path / "report", comparison)).text
    verdict = "tuned is better than base on fact recall, no loss on general questions shown (n=93)"
    assert verdict in text
    assert [metric.metric for metric in comparison.scored] == ["fact_recall", "general"]
