"""How an endpoint asks its engine: no answer is lost to a connection that the engine closes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from setup.serve.settings import DeploymentSettings, EndpointSettings
from tests.home import ROOT, Home


class _OneAnswerEach(BaseHTTPRequestHandler):
    """Answers a connection's first request, and closes it at its second."""

    protocol_version = "HTTP/1.1"
    # The first three are answered together, so that there are three connections to be kept.
    together = [threading.Barrier(3)] * 3

    def setup(self) -> None:
        """Begin a connection."""
        super().setup()
        self.answered = False

    def do_POST(self) -> None:
        """Answer as ``/tokenize`` of llama.cpp does, or not at all."""
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.answered:
            self.close_connection = True
            return
        self.answered = True
        if self.together:
            self.together.pop().wait(20)
        body = b'{"tokens": [1]}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _OneAnswerEach) as engine:
        threading.Thread(target=engine.serve_forever).start()
        yield f"http://127.0.0.1:{engine.server_port}"
        engine.shutdown()


@contextmanager
def _endpoint_before(url: str, home: Home) -> Iterator[None]:
    """An endpoint whose engine runs already, and is not llama.cpp."""
    deployment = DeploymentSettings(model_path="none", context_window=512)
    EndpointSettings(
        name="phi-local",
        host="127.0.0.1",
        port=home.port,
        deployments={"base": deployment},
        traffic={"base": 100},
    ).save(home.folder)
    command = [sys.executable, "-m", "benchmarks.front", str(home.folder), url]
    with subprocess.Popen(command, cwd=ROOT, env=home.env, stdin=subprocess.PIPE) as process:
        try:
            assert process.stdin is not None
            process.stdin.write(b"key\n")
            process.stdin.close()
            _wait_until_healthy(home)
            yield
        finally:
            process.terminate()


def _wait_until_healthy(home: Home) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            if requests.get(f"{home.url}/health", timeout=5).ok:
                return
        except requests.ConnectionError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_connection_that_the_engine_closes_costs_no_answer(url: str, tmp_path: Path) -> None:
    home = Home(tmp_path, tmp_path)
    home.folder.mkdir(parents=True)
    with _endpoint_before(url, home), ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(home.call, "/tokenize", {"prompt": "x"}) for _ in range(3)]
        replies = [reply.result() for reply in asked]
        replies.append(home.call("/tokenize", {"prompt": "x"}))
    assert [reply.status_code for reply in replies] == [200] * 4, replies[-1].text
