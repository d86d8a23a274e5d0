"""The real ``pf`` command: answers, failures, batch runs, and no key in any byte they leave."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.flows.chat.conftest import KEY, ROOT, Connect, Pf, files_with_key, generating
from tests.home import free_port
from tests.scripted.server import Server
from tests.scripted.steps import delta, echo_key, events, reply

COLUMNS = ["question=${data.question}", "chat_history=${data.chat_history}"]


@pytest.mark.parametrize(
    ("contract", "value"),
    [
        ("score", {"output": "Bonjour 👋"}),
        ("mlflow", [{"0": "Bonjour 👋"}]),
        (
            "openai",
            {
                "choices": [{"message": {"content": "Bonjour 👋"}}],
                "usage": {"prompt_tokens": 9, "completion_tokens": 4},
            },
        ),
    ],
)
def test_flow_test(
    *, server: Server, connect: Connect, pf: Pf, flow: Path, contract: str, value: Any
) -> None:
    connect(contract)
    server.play(reply(value))
    done = pf("flow", "test", "--flow", str(flow), "--inputs", "question=Salut ?")
    assert done.returncode == 0, done.stderr
    answer = done.stdout[done.stdout.index("{\n") :]
    assert json.loads(answer) == {"answer": "Bonjour 👋"}


@pytest.mark.parametrize(
    ("contract", "inputs", "step", "line"),
    [
        ("score", {}, echo_key(401), "AuthenticationError: 401: the endpoint does not accept"),
        ("score", {}, reply({}), "NoOutputError: the endpoint answered {}"),
        (
            "openai",
            {"stream": True},
            events(delta("Hi"), done=False, cut=True),
            "CutOffError: the connection ended in the middle",
        ),
    ],
)
def test_flow_test_fails_in_one_line(
    *,
    server: Server,
    connect: Connect,
    pf: Pf,
    flow: Path,
    contract: str,
    inputs: dict[str, Any],
    step: Any,
    line: str,
) -> None:
    connect(contract)
    server.play(step)
    with generating(flow, **inputs):
        done = pf("flow", "test", "--flow", str(flow), "--inputs", "question=Hello")
    assert done.returncode == 1
    last = done.stdout.strip().splitlines()[-1]
    assert line in last
    assert "Fix: " in last
    assert '"answer"' not in done.stdout
    assert KEY not in done.stdout + done.stderr


def test_a_streamed_answer_is_pieces_of_text(
    *, server: Server, connect: Connect, pf: Pf, flow: Path
) -> None:
    connect("openai")
    server.play(events(delta("Bon"), delta("jour"), delta("", "stop")))
    with generating(flow, stream=True):
        done = pf("flow", "test", "--flow", str(flow), "--inputs", "question=Salut ?")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout[done.stdout.index("{\n") :]) == {"answer": "Bonjour"}


def test_an_image_holds_no_past_question(
    *, server: Server, connect: Connect, pf: Pf, flow: Path, pf_home: Path, tmp_path: Path
) -> None:
    connect("score")
    server.play(reply({"output": "The answer of the past."}))
    asked = "question=What was asked before the image?"
    assert pf("flow", "test", "--flow", str(flow), "--inputs", asked).returncode == 0
    (flow / "process_log").mkdir(exist_ok=True)
    (flow / "process_log" / "1.log").write_text("The answer of the past.", encoding="utf-8")
    assert _files_of_the_past(flow), "the flow folder keeps nothing, so this proves nothing"
    built = tmp_path / "image"
    command = ("flow", "build", "--source", str(flow), "--output", str(built), "--format", "docker")
    done = pf(*command, HOME=str(pf_home), USERPROFILE=str(pf_home))
    assert done.returncode == 0, done.stderr
    shutil.rmtree(flow / "process_log")
    assert (built / "Dockerfile").is_file()
    assert (built / "flow" / "scoring_client" / "client.py").is_file()
    assert _files_of_the_past(built) == []
    left = [path.name for path in (built / "flow" / ".promptflow").rglob("*") if path.is_file()]
    assert left == ["flow.tools.json"]
    assert not [
        path for path in built.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()
    ]


def _files_of_the_past(folder: Path) -> list[Path]:
    said = (b"asked before the image", b"answer of the past")
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if any(text in path.read_bytes() for text in said)]


@pytest.mark.parametrize(
    "folder", sorted(path.parent for path in ROOT.glob("flows/*/flow.dag.yaml"))
)
def test_what_pf_leaves_is_in_no_upload(folder: Path, tmp_path: Path) -> None:
    """By the rules of promptflow and of azure-ai-ml, which upload a flow's folder."""
    general = importlib.import_module("promptflow._sdk._utilities.general_utils")
    copy = Path(shutil.copytree(folder, tmp_path / "flow"))
    for name in ("flow.log", "flow.output.json", "intermediate/a.json", "flow.tools.json"):
        path = copy / ".promptflow" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("The past.", encoding="utf-8")
    general.copy_tree_respect_template_and_ignore_file(copy, tmp_path / "upload")
    left = [path.name for path in (tmp_path / "upload" / ".promptflow").rglob("*")]
    assert left == ["flow.tools.json"]
    assert (tmp_path / "upload" / "flow.dag.yaml").is_file()


@pytest.fixture
def served(flow: Path, connect: Connect) -> Iterator[str]:
    """Address of ``pf flow serve`` of a flow that streams."""
    connect("openai")
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "promptflow._cli.pf", "flow", "serve", "--source", str(flow)]
    command += ["--host", "127.0.0.1", "--port", url.rpartition(":")[2], "--engine", "fastapi"]
    with (
        generating(flow, stream=True),
        subprocess.Popen([*command, "--skip-open-browser"], stderr=subprocess.DEVNULL) as process,
    ):
        deadline = time.monotonic() + 60
        while True:
            try:
                requests.get(f"{url}/health", timeout=5)
                break
            except requests.ConnectionError:
                assert process.poll() is None
                assert time.monotonic() < deadline, "pf flow serve did not come up"
                time.sleep(0.1)
        yield url
        process.terminate()


def test_events_hold_pieces_of_the_answer_and_nothing_else(served: str, server: Server) -> None:
    server.play(events(delta("Bon"), delta("jour"), delta("", "stop")))
    headers = {"Accept": "text/event-stream"}
    reply = requests.post(
        f"{served}/score", json={"question": "Salut ?"}, headers=headers, timeout=30
    )
    assert reply.headers["content-type"].startswith("text/event-stream")
    pieces = [json.loads(line.removeprefix("data: ")) for line in reply.text.split("\n") if line]
    assert pieces == [{"answer": "Bon"}, {"answer": "jour"}]


@pytest.fixture
def run_folder(pf_home: Path) -> Iterator[Path]:
    yield pf_home / ".runs"
    shutil.rmtree(pf_home / ".runs", ignore_errors=True)


def test_batch_run_leaves_no_key(
    *, server: Server, connect: Connect, pf: Pf, flow: Path, pf_home: Path, run_folder: Path
) -> None:
    """One line is answered, one fails at an endpoint that repeats the key, one is retried."""
    connect("score", endpoint="http://127.0.0.1:9/the-node-names-it-but-the-run-swaps-it")
    connect("score", name="other")

    def step(handler: Any) -> None:
        asked = server.received[-1].body["input_data"]["input_string"][-1]["content"]
        cost = {"output": asked.upper(), "usage": {"prompt_tokens": 9, "completion_tokens": 4}}
        (echo_key(424) if "receipt" in asked else reply(cost))(handler)

    server.play(step)
    done = pf(
        "run",
        "create",
        "--flow",
        str(flow),
        "--data",
        str(ROOT / "flows/chat/data.jsonl"),
        "--column-mapping",
        *COLUMNS,
        "--connections",
        "chat.connection=other",
        "--name",
        "leak",
    )
    assert done.returncode == 0, done.stderr
    outputs = (run_folder / "leak" / "outputs.jsonl").read_text(encoding="utf-8").splitlines()
    assert [set(json.loads(line)) for line in outputs] == [{"line_number", "answer"}] * 2
    for number in (0, 2):
        record = run_folder / "leak" / "node_artifacts" / "usage" / f"{number:09d}.jsonl"
        usage = json.loads(record.read_text(encoding="utf-8"))["run_info"]["output"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (9, 4)
        assert 0 < usage["seconds"] < 60
    [error] = json.loads((run_folder / "leak" / "error.json").read_text(encoding="utf-8"))[
        "additionalInfo"
    ][0]["info"]["errors"]
    assert error["line_number"] == 1
    assert error["error"]["additionalInfo"][0]["info"]["type"] == "ModelError"
    assert error["error"]["message"].startswith(
        "424: the model's own code failed, it says: no luck"
    )
    assert KEY not in done.stdout + done.stderr
    assert files_with_key(pf_home, flow) == []
