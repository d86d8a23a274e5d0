"""Lines on threads: values arrive as they are, and promptflow's record is its own to the byte."""

from __future__ import annotations

import copy
import importlib
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from tests.evaluation.chat import ChatServer
from tests.evaluation.conftest import Machine
from tests.home import ROOT


def test_values_arrive_as_they_are(machine: Machine, chat: ChatServer) -> None:
    """pandas makes a date of a column called so, and a float of a large number."""
    before = sys.stdout, sys.stderr
    texts = ["2024-01-01", "1700000000", "12345678901234567890", "a\u2028b", "1e5", "007"]
    for column in ("date", "asked_at", "question"):
        data = str(machine.data([{column: text} for text in texts]))
        mapping = f"question=${{data.{column}}}"
        done = machine.run("run", "one", "--data", data, "--column-mapping", mapping)
        assert done.returncode == 0, done.stderr
        (folder,) = (machine.home / "runs").iterdir()
        answers = [row["answer"] for row in machine.rows(f"{folder.name}/one")]
        assert answers == [f"An answer to: {text}" for text in texts]
        folder.rename(machine.home / column)
    assert chat.rows_asked == dict.fromkeys(texts, 3)
    assert (sys.stdout, sys.stderr) == before


def test_the_variant_is_the_one_named(machine: Machine, chat: ChatServer) -> None:
    data = str(machine.data([{"question": "Hi"}]))
    done = machine.run("run", "one", "--data", data, "--variant", "${chat.varied}")
    assert done.returncode == 0, done.stderr
    sent = chat.server.received[-1].body["input_data"]
    assert sent["parameters"]["temperature"] == 0.7
    assert sent["input_string"][-1]["content"] == "Hi"


def test_the_old_command_says_what_replaces_it() -> None:
    command = [sys.executable, "-m", "evaluation.batch", "--flow", "flows/chat"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "Fix: python -m evaluation run" in line
    assert "pf run create" in line


def test_a_journal_keeps_what_failed_in_parts(machine: Machine, chat: ChatServer) -> None:
    """Also one of the time when the fix was the end of the message."""
    chat.failing = {"b"}
    data = str(machine.data([{"id": text, "question": text} for text in "abc"]))
    given = ("run", "one", "--data", data, "--name", "parts", "--max-error-rate", "1")
    assert machine.run(*given).returncode == 0
    folder = machine.home / "runs" / "parts" / "one"
    kept = machine.rows("parts/one")[1]["error"]
    assert kept["type"] == "ModelError"
    assert "Fix: " not in kept["message"]
    assert kept["fix"]
    journal = folder / "answers.jsonl"
    outcomes = [json.loads(line) for line in journal.read_text().splitlines()]
    for error in filter(None, (outcome["error"] for outcome in outcomes)):
        error["message"] = f"{error['message']}. Fix: {error.pop('fix')}"
    journal.write_text("".join(json.dumps(outcome) + "\n" for outcome in outcomes))
    (folder / "summary.json").unlink()
    done = machine.run("run", "--resume", "--name", "parts", "--max-error-rate", "1")
    assert done.returncode == 0, done.stderr
    assert machine.rows("parts/one")[1]["error"] == kept
    assert chat.rows_asked == {"a": 1, "b": 1, "c": 1}
    report = (folder.parent / "rows.csv").read_text(encoding="utf-8")
    assert f"{kept['message']}. Fix: {kept['fix']}" in report.replace('""', '"')


def records() -> dict[str, Any]:
    """A line and a node with everything that promptflow may find in one."""
    info = importlib.import_module("promptflow.contracts.run_info")
    image = importlib.import_module("promptflow.contracts.multimedia").Image

    class Text(str):
        __slots__ = ()

    now = datetime(2026, 11, 22, 1, 2, 3, 456, tzinfo=UTC).replace(tzinfo=None)
    values = {
        "text": 'é \u2028 \U0001f600 "quoted"\n',
        "kind": Text("of text"),
        "number": [1, -2.5, float("nan"), 2**70, True, None],
        "when": now,
        "pair": (1, "two"),
        "status": info.Status.Completed,
        "deep": {"list": [{"image": image(b"\x89PNG made up", "image/png")}], "3": {}},
    }
    call = {"name": "chat", "inputs": values, "output": values, "children": None}
    shared = {
        "status": info.Status.Completed,
        "inputs": values,
        "output": values,
        "metrics": None,
        "start_time": now,
        "end_time": now,
        "index": 3,
        "api_calls": [call],
        "result": values,
        "system_metrics": {"duration": 0.25},
    }
    ids = {"run_id": "r_3", "parent_run_id": "r"}
    line = info.FlowRunInfo(
        **shared, **ids, error=None, request=None, root_run_id="r", source_run_id=None, flow_id="f"
    )
    node = info.RunInfo(node="chat", flow_run_id="r", error={"message": "no"}, **shared, **ids)
    empty = copy.deepcopy(line)
    empty.output = empty.result = empty.api_calls = None
    empty.status = info.Status.Failed
    total = copy.deepcopy(node)
    total.index = None
    return {"line": line, "node": node, "empty": empty, "aggregation": total}


@pytest.mark.parametrize("kind", ["line", "node", "empty", "aggregation"])
def test_the_record_is_promptflows_byte_for_byte(tmp_path: Path, kind: str) -> None:
    local = importlib.import_module("promptflow._sdk.operations._local_storage_operations")
    quick = importlib.import_module("evaluation.engines.threads")
    storage = local.LocalStorageOperations.__new__(local.LocalStorageOperations)
    storage._run = SimpleNamespace(name="made-up")
    storage._run_infos_folder = tmp_path / "lines"
    storage._node_infos_folder = tmp_path / "nodes"
    for folder in (storage._run_infos_folder, storage._node_infos_folder):
        folder.mkdir()
    theirs, ours = records()[kind], records()[kind]
    written = []
    for writer, info in ((storage, theirs), (quick.QuickStorage(storage), ours)):
        persist = writer.persist_node_run if hasattr(info, "node") else writer.persist_flow_run
        with mock.patch("uuid.uuid4", return_value="the-image"):  # a picture's file name
            persist(info)
        (path,) = tmp_path.rglob("*.jsonl")
        written.append((path, path.read_bytes()))
        path.unlink()
    assert written[0] == written[1]
    assert repr(theirs) == repr(ours)
