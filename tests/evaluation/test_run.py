"""``python -m evaluation run``: what a finished run holds, and what is refused before row 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from evaluation.ask.rows_in import read_data
from evaluation.cli.main import app
from setup.common.errors import FixableError
from tests.evaluation.chat import ChatServer, question_row
from tests.evaluation.conftest import KEY, Machine, connect, failed, metrics_of
from tests.home import ROOT

ROWS = [question_row(number) for number in range(12)]


def right(question: str) -> str:
    return f"The number is {question.rsplit(maxsplit=1)[-1].rstrip('?')}."


def test_two_connections_are_compared_and_reported(machine: Machine, chat: ChatServer) -> None:
    connect("other", chat)
    chat.answer = lambda question: right(question) if "1" in question else "No idea."
    data = str(machine.data(ROWS))
    done = machine.run("run", "one", "other", "--data", data, "--name", "first")
    assert done.returncode == 0, done.stderr
    assert "other" in done.stdout
    report = machine.home / "runs/first/report.html"
    assert done.stdout.strip().splitlines()[-1] == f"report: {report}"
    assert "<html" in report.read_text(encoding="utf-8")
    rows = machine.rows("first/one")
    assert [row["id"] for row in rows] == [row["id"] for row in ROWS]
    assert [row["scores"]["fact_recall"] for row in rows] == [
        float("1" in row["inputs"]["question"]) for row in rows
    ]
    assert rows[1]["scores"]["completion_tokens"] == 3
    summary = machine.summary("first/one")
    assert (summary["n"], summary["ok"], summary["error"]) == (12, 12, 0)
    assert summary["metrics"] == metrics_of(summary["pf_runs"]["answers"])
    assert summary["metrics"]["fact_recall"] == pytest.approx(3 / 12)
    assert set(chat.rows_asked.values()) == {2}
    config = (machine.home / "runs/first/one/config.json").read_text(encoding="utf-8")
    assert json.loads(config)["answer_limit"] == 256
    assert not [path for path in machine.home.rglob("*") if path.is_file() and KEY in _text(path)]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def test_run_shows_in_pf(machine: Machine, chat: ChatServer, tmp_path: Path) -> None:
    data = str(machine.data([question_row(n) for n in range(3)]))
    chat.failing = {"What is number 1?"}
    done = machine.run(
        "run", "one", "--data", data, "--name", "seen", "--max-error-rate", "0.5", "--json"
    )
    assert done.returncode == 0, done.stderr
    names = json.loads(done.stdout)["runs"][0]["summary"]["pf_runs"]
    from promptflow.client import PFClient

    client = PFClient()
    assert {run.name for run in client.runs.list()} >= set(names.values())
    details = client.get_details(names["chat"])
    assert list(details["outputs.answer"])[0::2] == [
        "An answer to: What is number 0?",
        "An answer to: What is number 2?",
    ]
    assert "Failed" in str(details["outputs.answer"][1])
    page = tmp_path / "page.html"
    client.runs.visualize([names["chat"], names["answers"]], html_path=str(page))
    assert "What is number 1?" in _text(page)


def test_an_answer_of_a_megabyte_and_half_a_character(machine: Machine, chat: ChatServer) -> None:
    answers = {"What is number 0?": "word " * 200_000, "What is number 1?": "half \ud83d <b>{{x}}"}
    chat.answer = lambda question: answers[question]
    data = str(machine.data(ROWS[:2]))
    done = machine.run("run", "one", "--data", data, "--name", "large")
    assert done.returncode == 0, done.stderr
    large, half = machine.rows("large/one")
    assert large["answer"].split() == ["word"] * 200_000
    assert large["scores"]["answer_words"] == 200_000
    assert half["answer"].startswith("half ")
    assert half["answer"].endswith(" <b>{{x}}")


def test_a_column_of_promptflows_own_moves_no_answer(machine: Machine, chat: ChatServer) -> None:
    chat.answer = right
    rows = [question_row(n, line_number=line) for n, line in enumerate((2, 0, 1))]
    done = machine.run("run", "one", "--data", str(machine.data(rows)), "--name", "numbered")
    assert done.returncode == 0, done.stderr
    for number, row in enumerate(machine.rows("numbered/one")):
        assert row["answer"] == f"The number is {number}."


def test_three_connections_are_asked_the_first_and_the_last_compared(
    machine: Machine, chat: ChatServer
) -> None:
    connect("other", chat)
    connect("third", chat)
    data = str(machine.data(ROWS[:1]))
    done = machine.run("run", "one", "other", "third", "--data", data, "--name", "trio", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["runs"]) == 3
    names = (found["comparison"]["baseline"]["name"], found["comparison"]["candidate"]["name"])
    assert names == ("trio/one", "trio/third")


def test_what_is_kept_of_a_connection_holds_no_secret(machine: Machine, chat: ChatServer) -> None:
    secret = "s3cret-in-a-url"
    url = f"{chat.server.url}/score?code={secret}"
    connect("odd", chat, endpoint=url, my_token=secret)
    data = str(machine.data(ROWS[:1]))
    assert machine.run("run", "odd", "--data", data, "--name", "kept").returncode == 0
    files = [path for path in machine.home.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert not [path for path in files if secret in _text(path)]


def test_a_name_is_used_once(machine: Machine, chat: ChatServer) -> None:
    connect("other", chat)
    data = str(machine.data(ROWS[:1]))
    assert machine.run("run", "one", "--data", data, "--name", "taken").returncode == 0
    assert "run taken is in" in failed(
        machine.run("run", "other", "--data", data, "--name", "taken")
    )


def test_a_run_folder_is_repaired(machine: Machine, chat: ChatServer) -> None:
    data = str(machine.data(ROWS[:3]))
    assert machine.run("run", "one", "--data", data, "--name", "cut").returncode == 0
    rows = machine.home / "runs/cut/one/rows.jsonl"
    whole = rows.read_bytes()
    for broken in (whole[: len(whole) // 2], None):
        if broken is None:
            rows.unlink()
        else:
            rows.write_bytes(broken)
        assert "--resume --name cut" in failed(machine.run("report", "cut"))
        assert machine.run("run", "--resume", "--name", "cut").returncode == 0
        assert rows.read_bytes() == whole
    assert set(chat.rows_asked.values()) == {1}


def test_limit_draws_rows_by_seed(machine: Machine) -> None:
    path = machine.data(ROWS)
    chosen = [row["id"] for row in read_data(path, limit=5, seed=1).rows]
    assert chosen == [row["id"] for row in read_data(path, limit=5, seed=1).rows]
    assert chosen == sorted(chosen, key=lambda name: int(name[4:]))
    assert chosen != [row["id"] for row in read_data(path, limit=5, seed=2).rows]


BAD_DATA: list[tuple[bytes, str]] = [
    (b"", "has no rows"),
    (b"\n \n", "has no rows"),
    (b'{"question": "a"}\n{"question": "b"', ":2 is not valid JSON"),
    (b'["a"]', "entry 1 of the array in "),
    (b'{"other": 1}', ":1: column question is missing"),
    (b'{"question": null}', ":1: column question is missing"),
    (b'{"question": 7}', ":1: column question is not text"),
    (b'{"question": "  "}', ":1: column question is not text, or empty"),
    (b'{"question": "a", "facts": "b"}', ":1: column facts is not a list of texts"),
    (b'{"question": "a", "facts": [1]}', ":1: column facts is not a list of texts"),
    (b'{"question": "a", "must_decline": "no"}', ":1: column must_decline is not true or false"),
    (b'{"question": "a", "ground_truth": {"a": 3}}', ":1: column ground_truth is not text"),
    (b'{"question": "a", "ground_truth": true}', ":1: column ground_truth is not text"),
    (b'{"question": "a", "ground_truth": NaN}', ":1: column ground_truth is not text"),
    (b'{"question": "a", "ground_truth": ["b", null]}', ":1: column ground_truth is not text"),
    (b'{"question": "a", "chat_history": [{"role": "user"}]}', ":1: column chat_history is not"),
    (b'{"question": "a", "id": 1}\n{"question": "b", "id": "1"}', "rows 1 and 2 have the same id"),
    (
        b'{"question": "caf\xe9"}',
        ":1 is not UTF-8 (byte 18 of the line is 0xE9). Fix: save the file as UTF-8",
    ),
    (b'{"question": "half \\ud83d"}', ":1 holds what no file takes"),
]


@pytest.mark.parametrize(("content", "line"), BAD_DATA, ids=[str(raw[:40]) for raw, _ in BAD_DATA])
def test_bad_data_is_refused_in_one_line(tmp_path: Path, content: bytes, line: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    with pytest.raises(FixableError) as refused:
        read_data(path)
    assert line in str(refused.value)
    assert str(path) in str(refused.value)
    assert "Fix: " in str(refused.value)


def test_data_with_a_bom_crlf_nulls_and_more_columns(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    rows = b'{"question": "a\xe2\x80\xa8b", "facts": null, "price": 3}\r\n\r\n{"question": "a"}\r\n'
    path.write_bytes(b"\xef\xbb\xbf" + rows)
    first, second = read_data(path).rows
    assert (first["question"], first["facts"]) == ("a\u2028b", [])
    assert "price" not in first
    assert second["must_decline"] is None, "nobody has said so"
    assert first["id"] != second["id"]


def test_rows_without_ids_are_named_by_what_they_ask(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"question": "a"}\n{"question": "b"}\n{"question": "a"}\n')
    ids = [row["id"] for row in read_data(path).rows]
    assert len(set(ids)) == 3
    path.write_text('{"question": "b", "facts": ["1"]}\n')
    assert read_data(path).rows[0]["id"] == ids[1]


def test_one_row_is_a_run(machine: Machine, chat: ChatServer) -> None:
    data = machine.data([{"question": "What is number 5?"}])
    done = machine.run("run", "one", "--data", str(data), "--name", "single")
    assert done.returncode == 0, done.stderr
    (row,) = machine.rows("single/one")
    assert row["scores"]["f1"] is None
    assert row["scores"]["latency_seconds"] > 0


REFUSED: list[tuple[list[str], str]] = [
    (["none-such"], "no connection none-such"),
    (["one", "one"], "a connection is named twice"),
    (["one", "--evaluator", "vibes"], "no evaluator 'vibes'"),
    (["one", "--name", "../up"], "is no name for a folder"),
    (["one", "--data", "nowhere.jsonl"], "nowhere.jsonl"),
    (["one", "--primary", "vibes"], "no metric 'vibes'"),
    (["one", "--resume", "--name", "never"], "no run never"),
    (["one", "--evaluator", "judge", "--judge", "nobody"], "no connection nobody"),
]


@pytest.mark.parametrize(("options", "line"), REFUSED, ids=[line for _, line in REFUSED])
def test_nothing_is_asked_when_something_is_wrong(
    machine: Machine, chat: ChatServer, options: list[str], line: str
) -> None:
    assert line in failed(machine.run("run", *options))
    assert not chat.rows_asked


def test_a_dead_endpoint_stops_before_row_one(machine: Machine, chat: ChatServer) -> None:
    connect("dead", chat, endpoint="http://127.0.0.1:9/score", connect_timeout="0.2", timeout="1")
    data = str(machine.data(ROWS))
    line = failed(machine.run("run", "one", "dead", "--data", data, "--name", "stopped"))
    assert "connection dead gives no answer" in line
    assert not chat.rows_asked
    assert not (machine.home / "runs" / "stopped").exists()


def test_a_key_that_is_not_accepted_stops_before_row_one(
    machine: Machine, chat: ChatServer
) -> None:
    from tests.scripted.steps import echo_key

    chat.server.play(echo_key(401))
    line = failed(machine.run("run", "one", "--data", str(machine.data(ROWS))))
    assert "the endpoint does not accept" in line
    assert KEY not in line


def test_every_option_has_help() -> None:
    commands: dict[str, Any] = vars(get_command(app))["commands"]
    own = {"run", "compare", "judge", "report", "gate", "list", "demo"}
    assert set(commands) == own | {"parity", "exit"}
    for command in commands.values():
        assert command.epilog.startswith("Example: python -m evaluation ")
        assert [option.name for option in command.params if not option.help] == []


def test_the_flows_share_no_module_name() -> None:
    """promptflow puts every flow folder of a process on its path: one name, one module."""
    seen: dict[str, Any] = {}
    for folder in sorted((ROOT / "flows").iterdir()):
        names = {path.stem for path in folder.glob("*.py")}
        names |= {path.parent.name for path in folder.glob("*/__init__.py")}
        for name in names:
            assert seen.setdefault(name, folder) == folder, name
