"""Judges as they are: silent, off the scale, of one opinion, fond of a place; never in silence."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from evaluation.ask.judge import QUESTION
from tests.evaluation.ask.test_judging import OPTIONS, connect_judge
from tests.evaluation.chat import ChatServer, question_row
from tests.evaluation.conftest import KEY, Machine, connect, failed
from tests.flows.evaluate_with_judge.judge import grades, material, prefers, says
from tests.scripted.server import Handler, Server, running
from tests.scripted.steps import reply

EVALS = ("--evaluator", "evals-judge", "--judge-model", "a-judge")
Says = Callable[[str], str]


@pytest.fixture
def judge() -> Iterator[Server]:
    """The judge of the connection ``judge``."""
    with running() as server:
        connect_judge("judge", f"{server.url}/v1")
        yield server


def manners(server: Server, of: Says, check: str = grades()) -> list[str]:
    """Let the judge reply ``of`` a row's question, ``check`` before row 1; what it was asked."""
    asked: list[str] = []

    def step(handler: Handler) -> None:
        question = material(handler.received)["question"]
        if question != QUESTION:
            asked.append(question)
        says(check if question == QUESTION else of(question))(handler)

    server.play(step)
    return asked


def rows(machine: Machine, count: int) -> str:
    return str(machine.data([question_row(number) for number in range(count)]))


@pytest.mark.parametrize(
    ("options", "said", "shown"),
    [
        (OPTIONS, "An answer.", 'it said "An answer."'),
        (OPTIONS, None, 'it said ""'),
        (OPTIONS, grades(correctness=11), "correctness: Input should be less than or equal to 5"),
        (OPTIONS, f"My key is {KEY}. " + "word " * 500, 'it said "My key is …. word'),
        (EVALS, "Good", "no digit from 1 to 5"),
        (EVALS, "9", 'it said "9"'),
    ],
)
def test_a_judge_without_a_verdict_is_refused_before_row_one(  # noqa: PLR0917
    machine: Machine,
    chat: ChatServer,
    judge: Server,
    options: tuple[str, ...],
    said: str | None,
    shown: str,
) -> None:
    judge.play(says(said))
    line = failed(machine.run("run", "one", "--data", rows(machine, 1), *options))
    assert line.startswith("error: judge a-judge of connection judge gives no verdict: ")
    assert shown in line
    assert len(line) < 500
    assert KEY not in line
    assert not chat.rows_asked


def test_replies_without_a_verdict_count_like_errors(
    machine: Machine, chat: ChatServer, judge: Server
) -> None:
    silent = {"What is number 1?": "I would say a 5.", "What is number 3?": "Good!"}
    manners(judge, lambda question: silent.get(question, grades()))
    done = machine.run("run", "one", "--data", rows(machine, 6), "--name", "mute", *OPTIONS)
    assert "33.3% of the rows of run mute failed (on 2 the judge gave no verdict)" in failed(done)
    assert "mute/one: n=6 ok=6 error=0 no_verdict=2" in done.stdout
    told = (
        "2 of 6 replies of the judge on mute/one were no verdict and score nothing, the first "
        '"I would say a 5." (rows row-1, row-3)'
    )
    assert told in done.stdout
    report = (machine.home / "runs/mute/report.html").read_text(encoding="utf-8")
    for text in ("2 of 6 replies of the judge", "no verdict of the judge", "Good!", "no_verdict="):
        assert text in report
    assert "no_verdict=2" in (machine.home / "runs/mute/report.md").read_text(encoding="utf-8")
    assert "2 no_verdict" in machine.run("list").stdout
    gates = machine.home / "gates.yaml"
    gates.write_text("gates: [{error_rate_at_most: 0.0}]")
    gated = machine.run("gate", "mute", "--gates", str(gates))
    assert (gated.returncode, "no_verdict=2" in gated.stdout) == (3, True)

    assert machine.run("run", "--resume", "--name", "mute").returncode == 1
    asked = manners(judge, lambda _: grades(correctness=2))
    chat.asked.clear()
    done = machine.run("run", "--retry-errors", "--name", "mute")
    assert done.returncode == 0, done.stderr
    assert sorted(asked) == sorted(silent)
    assert not chat.rows_asked
    assert "no_verdict" not in done.stdout
    marks = [row["scores"]["judge_correctness"] for row in machine.rows("mute/one")]
    assert marks == [4, 2, 4, 2, 4, 4]


def test_no_digit_of_the_judges_of_evals_counts_like_an_error(
    machine: Machine, chat: ChatServer, judge: Server
) -> None:
    def step(handler: Handler) -> None:
        asked = json.dumps(handler.received.body["messages"])
        bad = "What is number 1?" in asked and "luency measures" in asked
        says("Very" if bad else "4")(handler)

    judge.play(step)
    data = rows(machine, 6)
    done = machine.run("run", "one", "--data", data, "--name", "digits", *EVALS)
    assert "16.7% of the rows of run digits failed (on 1 the judge" in failed(done)
    assert "1 of 30 replies of the judge on digits/one were no verdict" in done.stdout
    judge.play(says("3"))
    assert machine.run("run", "--retry-errors", "--name", "digits").returncode == 0
    assert [row["scores"]["evals_fluency"] for row in machine.rows("digits/one")][:3] == [4, 3, 4]


def test_a_repeat_that_failed_is_counted_and_asked_again(
    machine: Machine, chat: ChatServer, judge: Server
) -> None:
    def step(handler: Handler) -> None:
        body = handler.received.body
        if material(handler.received)["question"] == "What is number 0?" and body["seed"] == 1:
            reply({"error": {"message": "bad request"}}, 400)(handler)
        else:
            says(grades())(handler)

    judge.play(step)
    options = ["run", "one", "--data", rows(machine, 2), "--name", "half", *OPTIONS]
    line = failed(machine.run(*options, "--judge-repeats", "2"))
    assert "50.0% of the rows of run half failed" in line
    assert machine.summary("half/one")["unscored"] == 1
    manners(judge, lambda _: grades(correctness=2))
    assert machine.run("run", "--retry-errors", "--name", "half").returncode == 0
    first, second = machine.rows("half/one")
    assert (first["scores"]["judge_correctness"], second["scores"]["judge_correctness"]) == (3, 4)


def test_one_grade_for_everything_is_said(
    machine: Machine, chat: ChatServer, judge: Server
) -> None:
    manners(judge, lambda question: grades(5, 5, 3 + ("3" in question), 5))
    done = machine.run("run", "one", "--data", rows(machine, 6), "--name", "same", *OPTIONS)
    assert done.returncode == 0, done.stderr
    said = "the judge gave 5 to all 6 rows of same/one: correctness, relevance, fluency"
    assert f"note: {said}\n" in done.stdout
    assert said in (machine.home / "runs/same/report.html").read_text(encoding="utf-8")


@pytest.fixture
def pair(machine: Machine, chat: ChatServer) -> str:
    """Two runs of three rows, whose answers differ."""
    connect("other", chat)
    answers = iter(["old"] * 3 + ["new"] * 3)
    chat.answer = lambda _: next(answers)
    options = ["--data", rows(machine, 3), "--name", "pair", "--workers", "1"]
    assert machine.run("run", "one", "other", *options).returncode == 0
    return "pair"


def test_pairs_without_any_verdict_end_in_one_line(
    machine: Machine, judge: Server, pair: str
) -> None:
    asked = manners(judge, lambda _: "Both are fine.", prefers("1"))
    command = ["judge", pair, "--judge-model", "a-judge"]
    done = machine.run(*command)
    line = failed(done)
    assert "6 of 6 replies of the judge were no verdict, the first" in line
    assert '"Both are fine."' in line
    assert "name one of" not in line
    assert "preferred by the judge" not in done.stdout.splitlines()[0]
    assert "6 of 6 replies" in (machine.home / "runs/pair/report.md").read_text(encoding="utf-8")
    assert len(asked) == 6
    asked = manners(judge, lambda _: prefers("tie"), prefers("1"))
    assert machine.run(*command).returncode == 1
    assert not asked, "a judge that is asked the same says the same, unless told to ask again"
    done = machine.run(*command, "--retry-errors")
    assert done.returncode == 0, done.stderr
    assert len(asked) == 6
    assert done.stdout.startswith(
        "no difference shown between pair/other and pair/one on preferred"
    )


def test_a_judge_fond_of_a_place_is_named_and_no_other_judge_inherits_it(
    machine: Machine, judge: Server, pair: str
) -> None:
    manners(judge, lambda _: prefers("1"), prefers("1"))
    done = machine.run("judge", pair, "--judge-model", "a-judge")
    assert done.returncode == 0, done.stderr
    said = "the judge named the answer shown first in both orders of 3 of 3 pairs"
    assert said in done.stdout
    assert said in (machine.home / "runs/pair/report.html").read_text(encoding="utf-8")
    with running() as server:
        connect_judge("another", f"{server.url}/v1")
        asked = manners(server, lambda _: prefers("tie"), prefers("1"))
        done = machine.run("judge", pair, "--judge-model", "a-judge", "--judge", "another")
    assert done.returncode == 0, done.stderr
    assert len(asked) == 6
    assert said not in done.stdout
