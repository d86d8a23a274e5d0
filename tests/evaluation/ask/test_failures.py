"""Failed rows stay rows, nothing is asked twice, nothing answered is lost."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluation.ask.watch import GIVE_UP_AFTER
from tests.evaluation.chat import ChatServer, question_row
from tests.evaluation.conftest import Machine, failed

WORKERS = 4
Start = Callable[[], "subprocess.Popen[str]"]


def rows(count: int) -> list[dict[str, object]]:
    return [question_row(number) for number in range(count)]


def some(count: int, share: float) -> set[str]:
    """A random share of the questions, never so many in a row that the run is given up."""
    chosen = random.Random(3).sample(range(count), int(count * share))  # noqa: S311
    return {f"What is number {number}?" for number in chosen}


def test_failed_rows_stay_rows_and_are_asked_again(machine: Machine, chat: ChatServer) -> None:
    chat.failing = some(40, 0.3)
    data = str(machine.data(rows(40)))
    line = failed_after_report(machine.run("run", "one", "--data", data, "--name", "flaky"))
    assert line == (
        "error: 30.0% of the rows of run flaky failed, more than --max-error-rate 5.0%. "
        "Fix: python -m evaluation run --retry-errors --name flaky"
    )
    before = machine.rows("flaky/one")
    assert {r["inputs"]["question"] for r in before if r["error"]} == chat.failing
    assert all(r["scores"] == {} and r["answer"] is None for r in before if r["error"])
    assert {r["error"]["type"] for r in before if r["error"]} == {"ModelError"}
    assert machine.summary("flaky/one")["error"] == 12
    assert machine.summary("flaky/one")["metrics"]["lines"] == 28

    again, chat.failing = chat.failing, set()
    chat.asked.clear()
    done = machine.run("run", "--retry-errors", "--name", "flaky")
    assert done.returncode == 0, done.stderr
    assert chat.rows_asked == dict.fromkeys(again, 1)
    after = machine.rows("flaky/one")
    assert [row["id"] for row in after] == [f"row-{number}" for number in range(40)]
    assert not [row for row in after if row["error"]]
    kept = {row["id"]: row["answer"] for row in before if not row["error"]}
    assert {row["id"]: row["answer"] for row in after}.items() >= kept.items()
    assert machine.summary("flaky/one")["metrics"]["lines"] == 40


def failed_after_report(done: subprocess.CompletedProcess[str]) -> str:
    assert "report: " in done.stdout
    return failed(done)


def test_below_the_limit_it_is_a_finished_run(machine: Machine, chat: ChatServer) -> None:
    chat.failing = {"What is number 2?"}
    data = str(machine.data(rows(4)))
    options = ["run", "one", "--data", data, "--name", "most", "--max-error-rate", "0.25"]
    done = machine.run(*options)
    assert done.returncode == 0, done.stderr
    assert "n=4 ok=3 error=1" in done.stdout


def test_every_row_failing_is_a_failed_run(machine: Machine, chat: ChatServer) -> None:
    chat.failing = some(5, 1.0)
    data = str(machine.data(rows(5)))
    line = failed(machine.run("run", "one", "--data", data, "--name", "none"))
    assert "every line of run none/one failed (5 of 5), the last with ModelError: 424" in line
    assert line.count("Fix: ") == 1
    assert "; then the same command with --retry-errors" in line
    assert "run none/one" in failed(machine.run("report", "none/one"))
    chat.failing = set()
    assert machine.run("run", "--retry-errors").returncode == 0


def test_an_endpoint_that_dies_ends_the_run_early(machine: Machine, chat: ChatServer) -> None:
    chat.failing = {f"What is number {number}?" for number in range(3, 200)}
    data = str(machine.data(rows(200)))
    line = failed(machine.run("run", "one", "--data", data, "--name", "died"))
    assert f"{GIVE_UP_AFTER} lines failed one after another" in line
    # An answer that comes late makes the count of failures start anew, three times at most.
    assert len(chat.rows_asked) <= GIVE_UP_AFTER + 4 * WORKERS
    chat.failing = set()
    chat.asked.clear()
    done = machine.run("run", "--retry-errors")
    assert done.returncode == 0, done.stderr
    assert not set(chat.rows_asked) & {f"What is number {number}?" for number in range(3)}
    assert set(chat.rows_asked.values()) == {1}
    assert len(machine.rows("died/one")) == 200


@pytest.fixture
def begun(machine: Machine, chat: ChatServer) -> subprocess.Popen[str]:
    """A run of 40 rows in a process of its own, some of them answered."""
    chat.seconds = 0.1
    data = str(machine.data(rows(40)))
    process = machine.start("run", "one", "--data", data, "--name", "begun")
    deadline = time.monotonic() + 60
    while machine.answered("begun/one") < 8:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def test_kill_then_resume_asks_nothing_twice(
    machine: Machine, chat: ChatServer, begun: subprocess.Popen[str]
) -> None:
    begun.kill()
    begun.communicate()
    answered = machine.answered("begun/one")
    asked = set(chat.rows_asked)
    assert 8 <= answered < 40
    assert len(asked) - answered <= WORKERS, "only what was in flight may be lost"
    # What a kill in the middle of a write leaves.
    with (machine.home / "runs/begun/one/answers.jsonl").open("ab") as file:
        file.write(b'{"line": 39, "outp')
    chat.asked.clear()
    done = machine.run("run", "--resume")
    assert done.returncode == 0, done.stderr
    assert len(chat.rows_asked) == 40 - answered
    assert set(chat.rows_asked.values()) == {1}
    found = machine.rows("begun/one")
    assert [row["id"] for row in found] == [f"row-{number}" for number in range(40)]
    assert all(row["scores"]["latency_seconds"] > 0 for row in found)
    chat.asked.clear()
    assert machine.run("run", "--resume").returncode == 0
    assert not chat.rows_asked


def test_interrupt_finishes_what_is_in_flight(
    machine: Machine, chat: ChatServer, begun: subprocess.Popen[str]
) -> None:
    begun.send_signal(signal.SIGINT)
    out, err = begun.communicate(timeout=30)
    assert begun.returncode == 130, err
    assert err.strip().splitlines()[-1] == (
        "interrupted; go on with: python -m evaluation run --resume"
    )
    assert "Traceback" not in out + err
    assert machine.answered("begun/one") == len(chat.rows_asked) < 40
    chat.asked.clear()
    assert machine.run("run", "--resume").returncode == 0
    assert set(chat.rows_asked.values()) == {1}


def test_another_run_is_not_gone_on_with(
    machine: Machine, chat: ChatServer, begun: subprocess.Popen[str]
) -> None:
    begun.kill()
    begun.communicate()
    chat.asked.clear()
    line = failed(machine.run("run", "one", "--name", "begun"))
    assert "is in" in line
    assert "already" in line
    changed = ["run", "--resume", "--set", "finetune.rank=8"]
    assert "other values of recipe (finetune: rank: 16, now 8)" in failed(machine.run(*changed))
    assert "other values of data" in failed(machine.run("run", "--resume", "--limit", "9"))
    _append(machine.home / "data.jsonl", '{"question": "One more?"}\n')
    assert "other values of data (sha256: " in failed(machine.run("run", "--resume"))
    assert not chat.rows_asked


def _append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_a_journal_of_the_time_when_usage_was_an_output(machine: Machine, chat: ChatServer) -> None:
    data = str(machine.data(rows(3)))
    chat.failing = {"What is number 1?"}
    given = ("--max-error-rate", "1")
    assert machine.run("run", "one", "--data", data, "--name", "old", *given).returncode == 0
    folder = machine.home / "runs" / "old" / "one"
    before = machine.rows("old/one")
    journal = folder / "answers.jsonl"
    outcomes = [json.loads(line) for line in journal.read_text().splitlines()]
    for outcome in outcomes:
        usage = outcome.pop("usage")
        if outcome["outputs"]:
            assert usage["completion_tokens"] == 3
            outcome["outputs"]["usage"] = usage
    journal.write_text("".join(json.dumps(outcome) + "\n" for outcome in outcomes))
    (folder / "summary.json").unlink()
    chat.failing = set()
    again = machine.run("run", "--retry-errors", "--name", "old", *given)
    assert again.returncode == 0, again.stderr
    assert chat.rows_asked == {
        "What is number 0?": 1,
        "What is number 1?": 2,
        "What is number 2?": 1,
    }
    first, second, third = machine.rows("old/one")
    assert (first["scores"], third["scores"]) == (before[0]["scores"], before[2]["scores"])
    assert second["scores"]["completion_tokens"] == 3
    assert set(json.loads(journal.read_text().splitlines()[-1])["outputs"]) == {"answer"}
