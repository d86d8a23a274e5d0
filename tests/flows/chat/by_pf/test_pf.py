"""The flow through the real ``pf``, a real connection, the real endpoint and the real model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.flows.chat.by_pf.conftest import answer_of
from tests.home import ROOT, Home
from tests.recorder import Recorder, noting_connections

CAPITAL = "What is the capital of France?"
MAPPING = ["question=${data.question}", "chat_history=${data.chat_history}"]


def test_connections_are_in_our_own_store_without_their_key(home: Home) -> None:
    text = (home.path / "connections.json").read_text(encoding="utf-8")
    kept = json.loads(text)
    assert set(kept) == {"phi", "phi-base"}
    assert kept["phi-base"]["configs"]["deployment"] == "base"
    assert kept["phi"]["secrets"] == {
        "key": {"file": str(home.folder / "keys.json"), "field": "scoring"}
    }
    assert home.key() not in text


def test_flow_test_answers(home: Home, recorder: Recorder) -> None:
    done = home.pf("flow", "test", "--flow", "flows/chat", "--inputs", f"question={CAPITAL}")
    assert done.returncode == 0, done.stderr
    assert answer_of(done.stdout) == "The capital of France is Paris."
    assert recorder.asked[-1][-1] == {"role": "user", "content": CAPITAL}


def test_second_turn_depends_on_the_first(home: Home, recorder: Recorder) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "promptflow._cli.pf",
            *["flow", "test", "--interactive", "--flow"],
            "flows/chat",
        ],
        input=f"{CAPITAL}\nAnd of Germany?\n",
        cwd=ROOT,
        env=home.env,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    said = [line for line in done.stdout.splitlines() if line.strip()]
    for answer in ("The capital of France is Paris.", "The capital of Germany is Berlin."):
        assert [line for line in said if answer in line] == [f"User: Bot: {answer}"]
    assert "completion_tokens" not in done.stdout
    first, second = recorder.asked[-2:]
    assert second == [
        *first,
        {"role": "assistant", "content": "The capital of France is Paris."},
        {"role": "user", "content": "And of Germany?"},
    ]


def _batch(home: Home, data: Path, name: str) -> tuple[list[dict[str, Any]], Path]:
    done = home.pf(
        *("run", "create", "--flow", "flows/chat", "--data", str(data), "--name", name),
        *("--column-mapping", *MAPPING),
    )
    assert done.returncode == 0, done.stderr
    run = home.path / "promptflow" / ".runs" / name
    outputs = (run / "flow_outputs" / "output.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in outputs.splitlines()], run


@pytest.mark.slow
def test_batch_over_the_test_split(home: Home, recorder: Recorder, tmp_path: Path) -> None:
    lines = (ROOT / "data/sample/test.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    chosen = [row for row in rows if not row["chat_history"]][:4]
    chosen += [row for row in rows if row["chat_history"]][:2]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")
    outputs, run = _batch(home, data, "split")
    assert [output["line_number"] for output in outputs] == list(range(6))
    assert all(output["answer"].strip() for output in outputs)
    asked = {messages[-1]["content"]: len(messages) for messages in recorder.asked}
    for row in chosen:
        assert asked[row["question"]] == 1 + 2 * len(row["chat_history"])
    assert not _files_with(run, home.key().encode())


def _long_history() -> list[dict[str, Any]]:
    return [
        {
            "inputs": {"question": f"Question number {number}? " + "Please think. " * 20},
            "outputs": {"answer": f"Answer number {number}. " + "That is all. " * 20},
        }
        for number in range(40)
    ]


@pytest.mark.slow
def test_odd_lines_are_answered_or_refused_in_one_line(
    home: Home, recorder: Recorder, tmp_path: Path
) -> None:
    questions = [
        "Où est la gare ? 東京はどこですか",
        "🙂🙃",
        "مرحبا، كيف حالك؟",
        "   ",
        "word " * 20_000,
    ]
    rows: list[dict[str, Any]] = [{"question": text, "chat_history": []} for text in questions]
    rows.append({"question": CAPITAL, "chat_history": _long_history()})
    data = tmp_path / "odd.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    outputs, run = _batch(home, data, "odd")
    assert [output["line_number"] for output in outputs] == [0, 1, 2, 5]
    failures = json.loads((run / "error.json").read_text(encoding="utf-8"))
    lines = failures["additionalInfo"][0]["info"]["errors"]
    messages = {line["line_number"]: line["error"]["message"] for line in lines}
    assert set(messages) == {3, 4}
    assert "empty" in messages[3]
    assert "1792 fit" in messages[4]
    assert not any("\n" in message for message in messages.values())
    _check_that_history_was_cut_to_fit(home, recorder)


def _check_that_history_was_cut_to_fit(home: Home, recorder: Recorder) -> None:
    """The newest turns stay, one turn more would not fit, by the endpoint's own count."""
    [sent] = [asked for asked in recorder.asked if "Question number" in asked[0]["content"]]
    history = _long_history()
    assert sent[-1]["content"] == CAPITAL
    assert sent[-2]["content"] == history[-1]["outputs"]["answer"]
    turns = len(sent) // 2
    assert [message["role"] for message in sent] == [*["user", "assistant"] * turns, "user"]
    dropped = history[len(history) - turns - 1]
    longer = [
        {"role": "user", "content": dropped["inputs"]["question"]},
        {"role": "assistant", "content": dropped["outputs"]["answer"]},
        *sent,
    ]
    fits, too_long = (
        home.call("/tokenize", {"messages": messages}).json()["count"]
        for messages in (sent, longer)
    )
    assert fits <= 2048 - 256 < too_long


def _files_with(folder: Path, secret: bytes) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and secret in path.read_bytes()]


def test_key_is_nowhere_but_in_its_store(home: Home, recorder: Recorder) -> None:
    """The connection store encrypts it, the endpoint's own file is private; nothing else has it."""
    found = _files_with(home.path, home.key().encode())
    assert found == [home.folder / "keys.json"]
    assert oct((home.folder / "keys.json").stat().st_mode)[-3:] == "600"


def test_nothing_leaves_the_machine(home: Home, recorder: Recorder, tmp_path: Path) -> None:
    """Every proxied connection is noted: `pf` asks no host but the endpoint."""
    data = tmp_path / "one.jsonl"
    data.write_text(json.dumps({"question": "Hi", "chat_history": []}) + "\n", encoding="utf-8")
    names = ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy")
    with noting_connections() as proxy:
        with home.altered(**dict.fromkeys(names, proxy.url), NO_PROXY="127.0.0.1,localhost"):
            _batch(home, data, "quiet")
        assert proxy.connections == 0
