"""A model as judge, through the command: what counts, what does not, and who may not judge."""

from __future__ import annotations

import gc
import importlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from evaluation.ask.judge import QUESTION
from tests.evaluation.chat import ChatServer, question_row
from tests.evaluation.conftest import KEY, Machine, connect, failed, metrics_of
from tests.flows.evaluate_with_judge.judge import grades, material, prefers, says
from tests.scripted.server import Handler, Server, running

OPTIONS = ("--evaluator", "judge", "--judge-model", "a-judge")


class Judge:
    """Replies to the row's number with one of ``replies``; counts what it judged."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.replies: dict[str, str] = {}
        self.judged: list[str] = []
        server.play(self._step)

    def _step(self, handler: Handler) -> None:
        question = material(handler.received)["question"]
        if question == QUESTION:  # the check before row 1
            says(grades())(handler)
            return
        self.judged.append(question)
        says(self.replies.get(question, grades()))(handler)


@pytest.fixture
def judge() -> Iterator[Judge]:
    """The judge of the connection ``judge``."""
    with running() as server:
        connect_judge("judge", f"{server.url}/v1")
        yield Judge(server)


def connect_judge(name: str, base_url: str) -> None:
    gc.collect()  # promptflow leaves its database sessions to it, and has 15 of them
    client = importlib.import_module("promptflow.client").PFClient()
    kind = importlib.import_module("promptflow.entities").OpenAIConnection
    client.connections.create_or_update(kind(name=name, api_key=KEY, base_url=base_url))


def scores(machine: Machine, run: str) -> list[Any]:
    return [row["scores"]["judge_correctness"] for row in machine.rows(run)]


def test_what_is_no_verdict_is_counted_and_never_scored(
    machine: Machine, chat: ChatServer, judge: Judge
) -> None:
    judge.replies = {
        "What is number 1?": "I would say this is quite good, a 5.",
        "What is number 2?": '{"correctness": 4, "relevance": 5',
        "What is number 3?": grades(correctness=11),
    }
    chat.failing = {"What is number 4?"}
    data = str(machine.data([question_row(number) for number in range(6)]))
    done = machine.run(
        "run", "one", "--data", data, "--name", "judged", *OPTIONS, "--max-error-rate", "0.2"
    )
    assert done.returncode == 1
    assert "66.7% of the rows of run judged failed (on 3 the judge gave no verdict)" in done.stderr
    assert "n=6 ok=5 error=1 no_verdict=3" in done.stdout
    rows = machine.rows("judged/one")
    assert [row["scores"].get("judge_correctness") for row in rows] == [
        4,
        None,
        None,
        None,
        None,
        4,
    ]
    assert rows[1]["reasons"]["judge_reason"] == judge.replies["What is number 1?"]
    summary = machine.summary("judged/one")
    assert summary["metrics"] == metrics_of(summary["pf_runs"]["judge"])
    assert summary["metrics"]["judge_unparsed"] == 3
    assert summary["metrics"]["judge_correctness"] == 4
    assert (summary["error"], summary["unscored"]) == (1, 0)
    assert len(judge.judged) == 5


def test_repeats_are_averaged_and_never_judged_twice(
    machine: Machine, chat: ChatServer, judge: Judge
) -> None:
    marks = iter([1, 5, 3, 3, 2, 2])
    lock = []

    def step(handler: Handler) -> None:
        if material(handler.received)["question"] == QUESTION:
            says(grades())(handler)
            return
        lock.append(handler.received.body["seed"])
        says(grades(correctness=next(marks)))(handler)

    judge.server.play(step)
    data = str(machine.data([question_row(number) for number in range(3)]))
    options = ["run", "one", "--data", data, "--name", "twice", *OPTIONS, "--judge-repeats", "2"]
    done = machine.run(*options)
    assert done.returncode == 0, done.stderr
    assert sum(scores(machine, "twice/one")) == pytest.approx((1 + 5 + 3 + 3 + 2 + 2) / 2)
    assert sorted(lock) == [0, 0, 0, 1, 1, 1]
    assert machine.summary("twice/one")["metrics"]["judge_spread"] >= 0
    # A kill after the last verdict, before the summary: no verdict is asked for again.
    (machine.home / "runs/twice/one/summary.json").unlink()
    assert machine.run("run", "--resume").returncode == 0
    assert len(lock) == 6
    assert sum(scores(machine, "twice/one")) == pytest.approx(8)


def test_a_failing_judge_leaves_rows_unscored(
    machine: Machine, chat: ChatServer, judge: Judge
) -> None:
    from tests.scripted.steps import reply

    def step(handler: Handler) -> None:
        if material(handler.received)["question"] == QUESTION:
            says(grades())(handler)
        elif material(handler.received)["question"] == "What is number 0?":
            reply({"error": {"message": "bad request"}}, 400)(handler)
        else:
            says(grades())(handler)

    judge.server.play(step)
    data = str(machine.data([question_row(number) for number in range(3)]))
    done = machine.run("run", "one", "--data", data, "--name", "failing", *OPTIONS)
    assert "33.3% of the rows of run failing failed" in failed(done)
    rows = machine.rows("failing/one")
    assert rows[0]["scores"] == {}
    assert rows[0]["reasons"]["judge"].startswith("not evaluated: ")
    assert machine.summary("failing/one")["unscored"] == 1
    judge.server.play(says(grades(correctness=2)))
    chat.asked.clear()
    assert machine.run("run", "--retry-errors").returncode == 0
    assert sorted(scores(machine, "failing/one")) == [2, 4, 4]
    assert not chat.rows_asked


def test_no_model_judges_itself(machine: Machine, chat: ChatServer) -> None:
    connect_judge("judge", f"{chat.server.url.replace('127.0.0.1', 'localhost')}/v1")
    data = str(machine.data([question_row(0)]))
    line = failed(machine.run("run", "one", "--data", data, *OPTIONS))
    assert "the judge a-judge of connection judge is the model under test of connection one" in line
    assert "--force-judge" in line
    assert not chat.asked


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--evaluator", "judge"), "the judge has no model"),
        ((*OPTIONS, "--judge", "nobody"), "no connection nobody"),
        ((*OPTIONS, "--judge", "one"), "connection one is a CustomConnection"),
    ],
)
def test_a_judge_that_cannot_judge_stops_before_row_one(
    machine: Machine, chat: ChatServer, judge: Judge, options: tuple[str, ...], line: str
) -> None:
    data = str(machine.data([question_row(0)]))
    assert line in failed(machine.run("run", "one", "--data", data, *options))
    assert not chat.rows_asked


def test_a_judge_without_an_answer_stops_before_row_one(
    machine: Machine, chat: ChatServer, judge: Judge
) -> None:
    from tests.scripted.steps import echo_key

    judge.server.play(echo_key(401))
    data = str(machine.data([question_row(0)]))
    line = failed(machine.run("run", "one", "--data", data, *OPTIONS))
    assert "judge a-judge of connection judge gives no answer" in line
    assert KEY not in line
    assert not chat.rows_asked


def test_pairs_are_judged_in_both_orders(machine: Machine, chat: ChatServer, judge: Judge) -> None:
    """Row 0: the candidate, whatever its place. Row 1: the first place. Row 2: no verdict."""
    connect("other", chat)
    answers = iter(["old"] * 3 + ["new"] * 3)
    chat.answer = lambda _: next(answers)
    data = str(machine.data([question_row(number) for number in range(3)]))
    done = machine.run("run", "one", "other", "--data", data, "--name", "pair", "--workers", "1")
    assert done.returncode == 0, done.stderr

    def step(handler: Handler) -> None:
        shown = material(handler.received)
        if shown["question"] == QUESTION:
            says(prefers("1"))(handler)
            return
        new = "1" if shown["Answer 1"] == "new" else "2"
        judge.judged.append(shown["question"])
        verdicts = {"What is number 0?": prefers(new), "What is number 1?": prefers("1")}
        says(verdicts.get(shown["question"], "Both are fine."))(handler)

    judge.server.play(step)
    options = ["judge", "pair", "--judge-model", "a-judge", "--max-error-rate", "0.4"]
    done = machine.run(*options, "--json")
    assert done.returncode == 0, done.stderr
    compared = json.loads(done.stdout)["comparison"]
    (metric,) = [m for m in compared["metrics"] if m["metric"] == "judge_preferred"]
    assert compared["primary"] == "judge_preferred"
    assert metric["candidate"]["value"] == pytest.approx((1 + 0.5) / 2)
    assert metric["baseline"]["value"] == pytest.approx((0 + 0.5) / 2)
    assert (metric["wins"], metric["ties"], metric["losses"]) == (1, 1, 0)
    assert len(judge.judged) == 6
    assert machine.run(*options).returncode == 0
    assert len(judge.judged) == 6, "no pair is judged twice"
    assert "preferred by the judge" in (machine.home / "runs/pair/report.md").read_text()
