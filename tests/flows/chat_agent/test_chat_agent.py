"""The chat agent by its three commands, in its own environment, which ``make agents`` makes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from openai import OpenAI
from playwright.sync_api import Request, sync_playwright

from tests.browser.chromium import find_chromium
from tests.home import ROOT, free_port
from tests.scripted.server import Handler, Received, Server, Step, running
from tests.scripted.steps import delta, reply

PYTHON = ROOT / ".venv-agents" / "bin" / "python"
pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="no environment of Agent Framework; run: make agents"
)
PARIS = reply({"output": "The capital of France is Paris."})


@pytest.fixture(scope="module")
def scripted() -> Iterator[Server]:
    with running() as server:
        yield server


def _environment(server: Server, path: str = "/score", **more: str) -> dict[str, str]:
    return os.environ | {"PHI_ENDPOINT": server.url + path, "PHI_KEY": "agent-key", **more}


def _agent(
    *arguments: str, env: dict[str, str], said: str = ""
) -> subprocess.CompletedProcess[str]:
    command = [str(PYTHON), "-m", "flows.chat_agent", *arguments]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=env,
        input=said,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def _serving(*arguments: str, env: dict[str, str], url: str) -> Iterator[subprocess.Popen[str]]:
    command = [str(PYTHON), "-m", "flows.chat_agent", *arguments]
    with subprocess.Popen(command, cwd=ROOT, env=env, text=True, stderr=subprocess.PIPE) as process:
        try:
            deadline = time.monotonic() + 90
            while not _answers(url):
                assert process.poll() is None, process.stderr
                assert time.monotonic() < deadline, "the agent did not come up"
                time.sleep(0.1)
            yield process
        finally:
            process.kill()


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


def _by_question(received: Received) -> str:
    asked = received.body["input_data"]
    # A list of texts is the other form of /score, tried where the first is refused.
    return str(asked[-1] if isinstance(asked, list) else asked["input_string"][-1]["content"])


def test_it_is_little_code() -> None:
    files = (ROOT / "flows" / "chat_agent").glob("*.py")
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files) <= 200


def test_ask_prints_the_answer(scripted: Server) -> None:
    scripted.play(PARIS)
    done = _agent("ask", "What is the capital of France?", env=_environment(scripted))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "The capital of France is Paris.\n"
    assert scripted.received[0].headers["authorization"] == "Bearer agent-key"


def test_rows_keep_their_history_and_a_failed_row_stays_failed(scripted: Server) -> None:
    def answer(handler: Handler) -> None:
        good = _by_question(handler.received) != "And this?"
        step: Step = PARIS if good else reply({"error": "no"}, status=400)
        step(handler)

    scripted.play(answer)
    turn = {"inputs": {"question": "Hello"}, "outputs": {"answer": "Hi."}}
    rows = [
        {"question": "What is the capital of France?", "chat_history": [turn]},
        {"question": "And this?"},
    ]
    said = "\n".join(json.dumps(row) for row in rows)
    done = _agent("ask", env=_environment(scripted), said=said)
    lines = {line["line_number"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 1
    assert lines[0]["answer"] == "The capital of France is Paris."
    assert "RequestRefusedError" in lines[1]["error"]
    [whole] = [r for r in scripted.received if _by_question(r) != "And this?"]
    assert [m["role"] for m in whole.body["input_data"]["input_string"]] == [
        "user",
        "assistant",
        "user",
    ]


def test_connection_is_read_as_setup_keeps_it(scripted: Server, tmp_path: Path) -> None:
    scripted.play(PARIS)
    (tmp_path / "keys.json").write_text('{"scoring": "agent-key"}')
    place = {"file": str(tmp_path / "keys.json"), "field": "scoring"}
    entry = {"kind": "CustomConnection", "configs": {"endpoint": f"{scripted.url}/score"}}
    kept = {"phi-tuned": {**entry, "secrets": {"key": place}}}
    (tmp_path / "connections.json").write_text(json.dumps(kept))
    env = os.environ | {"FINETUNE_PHI_HOME": str(tmp_path)}
    done = _agent("ask", "What is it?", "--connection", "phi-tuned", env=env)
    assert done.stdout == "The capital of France is Paris.\n"
    assert scripted.received[0].headers["authorization"] == "Bearer agent-key"
    hidden = {**entry, "secrets": {"key": {"keyring": "phi.key"}}}
    (tmp_path / "connections.json").write_text(json.dumps({"phi": hidden}))
    unread = _agent("ask", "What is it?", env=env)
    assert unread.returncode == 1
    assert unread.stderr.endswith("Fix: set PHI_KEY\n")
    assert _agent("ask", "What is it?", env=env | {"PHI_KEY": "agent-key"}).returncode == 0
    missing = _agent("ask", "What is it?", "--connection", "phi-none", env=env)
    assert missing.returncode == 1
    assert "there is no connection phi-none" in missing.stderr
    assert missing.stderr.count("\n") == 1


def test_wrong_key_is_one_line(scripted: Server) -> None:
    scripted.play(reply({"error": "key"}, status=401))
    done = _agent("ask", "Hello?", env=_environment(scripted))
    assert done.returncode == 1
    assert done.stderr.startswith("AuthenticationError: ")
    assert done.stderr.count("\n") == 1
    assert "agent-key" not in done.stderr


def test_hosted_contract_by_the_openai_client(scripted: Server) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    env = _environment(scripted, PORT=url.rpartition(":")[2])
    scripted.play(PARIS)
    with _serving("serve", "--host", "127.0.0.1", env=env, url=f"{url}/readiness") as process:
        client = OpenAI(base_url=url, api_key="none")
        first = client.responses.create(model="chat", input="What is the capital of France?")
        assert first.output_text == "The capital of France is Paris."
        second = client.responses.create(
            model="chat", input="Its river?", previous_response_id=first.id
        )
        assert second.status == "completed"
        assert [m["content"] for m in scripted.received[-1].body["input_data"]["input_string"]] == [
            "What is the capital of France?",
            "The capital of France is Paris.",
            "Its river?",
        ]
        tool: Any = {"type": "function", "name": "f", "parameters": {}}
        refused = client.responses.create(model="chat", input="Hello", tools=[tool])
        assert refused.status == "failed"
        short: Any = {"effort": "low"}
        refused = client.responses.create(model="chat", input="Hello", reasoning=short)
        assert refused.status == "failed"
        process.terminate()
        assert process.stderr is not None
        log = process.stderr.read()
    # Foundry's host tells a caller nothing; whoever runs it reads why.
    for name in ("tools", "reasoning"):
        line = (
            f"InputError: the endpoint takes text alone (the request's {name}). Fix: leave it out"
        )
        assert line in log


def test_stream_is_ended_in_order_by_sigterm(scripted: Server) -> None:
    told = threading.Event()

    def in_two_parts(handler: Handler) -> None:
        handler.start(content_type="text/event-stream")
        for number, chunk in enumerate((delta("one "), delta("two"), delta("", "stop"))):
            if number == 1:
                told.wait(30)
            handler.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            handler.wfile.flush()
        handler.wfile.write(b"data: [DONE]\n\n")
        handler.cut()

    url = f"http://127.0.0.1:{free_port()}"
    env = _environment(scripted, "/v1", PORT=url.rpartition(":")[2])
    scripted.play(in_two_parts)
    with _serving("serve", "--host", "127.0.0.1", env=env, url=f"{url}/readiness") as process:
        client = OpenAI(base_url=url, api_key="none")
        pieces = []
        for event in client.responses.create(model="chat", input="Count.", stream=True):
            if event.type == "response.output_text.delta":
                pieces.append(event.delta)
                process.send_signal(signal.SIGTERM)
                told.set()
        assert "".join(pieces) == "one two"
        assert process.wait(30) == 0


def test_page_chats_and_asks_nobody_outside(scripted: Server) -> None:
    port, outside = free_port(), []
    path = find_chromium()
    assert path, "no Chromium for the browser tests; run: python -m tests.browser.chromium"

    def watch(request: Request) -> None:
        if request.url.startswith("http") and "//127.0.0.1" not in request.url:
            outside.append(request.url)

    scripted.play(PARIS, reply({"output": "It is the Seine."}))
    arguments = ("page", "--port", str(port), "--no-browser")
    url = f"http://127.0.0.1:{port}"
    with (
        _serving(*arguments, env=_environment(scripted), url=f"{url}/health"),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        page.on("request", watch)
        page.goto(url)
        for question, answer in (("Capital of France?", "is Paris."), ("Its river?", "the Seine.")):
            box = page.locator("textarea").last
            box.fill(question)
            box.press("Enter")
            page.get_by_text(answer).first.wait_for(timeout=30_000)
        browser.close()
    assert outside == []
    assert len(scripted.received[-1].body["input_data"]["input_string"]) == 3
