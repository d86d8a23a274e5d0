"""``python -m evaluation.batch``: what ``pf run create`` does, seen through promptflow itself."""

from __future__ import annotations

import copy
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from evaluation.batch.command import repeat_options
from evaluation.batch.watch import GIVE_UP_AFTER
from setup.common import console
from tests.evaluation.chat import ChatServer, chatting, question_row
from tests.evaluation.conftest import Done, Machine, connect, failed
from tests.home import ROOT

FLOW = str(ROOT / "flows" / "chat")
COLUMNS = ("--column-mapping", "question=${data.question}")


def create(*arguments: str) -> Done:
    """The command in this process, where promptflow is loaded once."""
    command = importlib.import_module("evaluation.batch.command")
    argv, code = ["evaluation.batch", *arguments], 0
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(sys, "argv", argv))
        out = stack.enter_context(console.out.capture())
        err = stack.enter_context(console.err.capture())
        try:
            command.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Done(argv, code, out.get(), err.get())


@pytest.fixture
def phi(chat: ChatServer) -> Iterator[ChatServer]:
    """The endpoint of the flow's own connection; ``chat`` is that of ``one``."""
    with chatting() as server:
        connect("phi", server)
        yield server


def rows(machine: Machine, count: int) -> str:
    return str(machine.data(question_row(number) for number in range(count)))


def pf_client() -> Any:
    return importlib.import_module("promptflow.client").PFClient()


def test_the_run_is_promptflows(machine: Machine, chat: ChatServer, phi: ChatServer) -> None:
    before = sys.stdout, sys.stderr
    done = create("--flow", FLOW, "--data", rows(machine, 6), *COLUMNS, "--name", "batch-six")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"run batch-six: n=6 ok=6 error=0 [0-9.]+ lines/s\n", done.stdout)
    assert done.stderr == "pf run show-details --name batch-six\n"
    assert phi.asked == {f"What is number {number}?": 1 for number in range(6)}
    assert not chat.asked
    assert (sys.stdout, sys.stderr) == before
    client = pf_client()
    run = client.runs.get("batch-six")
    assert run.status == "Completed"
    details = client.get_details("batch-six")
    assert list(details["outputs.answer"]) == [
        f"An answer to: What is number {number}?" for number in range(6)
    ]
    assert [name for name in details if name.startswith("outputs.")] == ["outputs.answer"]
    page = machine.home / "page.html"
    client.runs.visualize([run], html_path=str(page))
    assert "An answer to: What is number 5?" in page.read_text()


def test_options_of_pf(machine: Machine, chat: ChatServer, phi: ChatServer) -> None:
    data = machine.home / "data.csv"
    data.write_text("asked\nWhat is number 7?\n")
    done = create(
        *("--flow", f"{FLOW}/flow.dag.yaml", "--data", str(data), "--workers", "2", "--json"),
        *("--column-mapping", "question=${data.asked}", "chat_history=[]"),
        *("--connections", "chat.connection=one", "--variant", "${chat.varied}"),
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["n"], result["ok"], result["error"]) == (1, 1, 0)
    assert done.stderr == f"pf run show-details --name {result['name']}\n"
    assert not phi.asked
    sent = chat.server.received[0].body["input_data"]
    assert sent["parameters"]["temperature"] == 0.7
    assert sent["input_string"][-1]["content"] == "What is number 7?"


def test_values_of_an_option_are_those_up_to_the_next() -> None:
    given = ["--column-mapping", "a=1", "b=2", "--workers", "3", "--connections", "c.d=e"]
    repeated = ["--column-mapping", "a=1", "--column-mapping", "b=2", "--workers", "3"]
    assert repeat_options(given) == [*repeated, "--connections", "c.d=e"]


def test_an_evaluation_of_a_run(machine: Machine, chat: ChatServer, phi: ChatServer) -> None:
    data = rows(machine, 4)
    phi.answer = lambda question: f"It is {question.split()[-1]}"
    assert create("--flow", FLOW, "--data", data, *COLUMNS, "--name", "asked").returncode == 0
    columns = ["answer=${run.outputs.answer}", "facts=${data.facts}", "usage=${run.nodes.usage}"]
    flow = ("--flow", str(ROOT / "flows" / "evaluate_answers"), "--run", "asked", "--data", data)
    done = create(*flow, "--column-mapping", *columns, "--name", "scored", "--json")
    assert done.returncode == 0, done.stderr
    metrics = pf_client().get_metrics("scored")
    assert metrics == json.loads(done.stdout)["metrics"]
    assert (metrics["lines"], metrics["fact_recall"], metrics["completion_tokens"]) == (4, 1, 3)


def test_failed_lines_are_counted_and_may_be_too_many(
    machine: Machine, chat: ChatServer, phi: ChatServer
) -> None:
    phi.failing = {"What is number 1?"}
    command = ["--flow", FLOW, "--data", rows(machine, 10), *COLUMNS]
    done = create(*command, "--name", "some")
    assert done.returncode == 1
    assert done.stdout.startswith("run some: n=10 ok=9 error=1 ")
    assert re.fullmatch(
        r"error: 10.0% of the lines of run some failed, more than --max-error-rate 5.0%, the last "
        r"with ModelError: 424: .*\. Fix: pf run show-details --name some; "
        r"pf run create --resume-from some runs those lines again\n",
        done.stderr,
    )
    assert create(*command, "--max-error-rate", "0.1", "--name", "few").returncode == 0


def test_every_line_failing_is_a_failure(
    machine: Machine, chat: ChatServer, phi: ChatServer
) -> None:
    phi.failing = {f"What is number {number}?" for number in range(200)}
    given = ["--flow", FLOW, *COLUMNS, "--workers", "4"]
    line = failed(create(*given, "--data", rows(machine, 3), "--name", "none"))
    assert "every line of run none failed (3 of 3), the last with ModelError: 424" in line
    line = failed(create(*given, "--data", rows(machine, 200), "--name", "dead"))
    assert f"{GIVE_UP_AFTER} lines failed one after another" in line
    assert "Fix: pf run show-details --name dead" in line
    assert len(phi.asked) <= GIVE_UP_AFTER + 4


def test_what_promptflow_refuses_is_one_line(
    machine: Machine, chat: ChatServer, phi: ChatServer
) -> None:
    data = rows(machine, 1)
    given = ["--flow", FLOW, "--data", data]
    unknown = create(*given, *COLUMNS, "--connections", "chat.connection=nobody")
    assert "Connection 'nobody' is not found. Fix: " in failed(unknown)
    assert "${data.nothing}" in failed(
        create(*given, "--column-mapping", "question=${data.nothing}")
    )
    assert create(*given, *COLUMNS, "--name", "taken").returncode == 0
    assert "Run 'taken' already exists. Fix: " in failed(
        create(*given, *COLUMNS, "--name", "taken")
    )
    assert "'question' is not NAME=VALUE" in failed(create(*given, "--column-mapping", "question"))
    assert "name --data, --run or both" in failed(create("--flow", FLOW, *COLUMNS))
    no_flow = create("--flow", str(machine.home), "--data", data)
    assert "flow.dag.yaml is no flow with nodes" in failed(no_flow)
    assert phi.asked == {"What is number 0?": 1}


def test_interrupt_keeps_what_was_answered(
    machine: Machine, chat: ChatServer, phi: ChatServer
) -> None:
    phi.seconds = 0.1
    given = ["--flow", FLOW, "--data", rows(machine, 40), *COLUMNS, "--workers", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "evaluation.batch", *given, "--name", "cut"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=os.environ,
    )
    deadline = time.monotonic() + 60
    while len(phi.asked) < 4:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    told = "interrupted; what was answered: pf run show-details --name cut"
    assert err.strip().splitlines()[-1] == told
    assert "Traceback" not in out + err
    assert 4 <= len(phi.asked) < 40
    assert len(pf_client().get_details("cut")) == len(phi.asked)


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
    quick = importlib.import_module("evaluation.batch.storage")
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
