"""Too many clients, slow clients, vanishing clients, and a stop in the middle of it all."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import psutil
import pytest
import requests

from tests.conftest import MakeHome
from tests.home import Home, ask, ask_openai

pytestmark = pytest.mark.slow

LONG = "Tell me a very long story about the sea."


@pytest.fixture(scope="module")
def home(make_home: MakeHome) -> Home:
    home = make_home("endpoint.read_timeout=2", "endpoint.slots=2", "endpoint.queue=16")
    assert home.setup("deploy").returncode == 0
    return home


def _endpoint_process(home: Home) -> psutil.Process:
    return psutil.Process(json.loads((home.folder / "endpoint.pid").read_text())["pid"])


def _busy(home: Home) -> dict[str, int]:
    row = home.manage("GET").json()["deployments"]["base"]
    return {"admitted": row["admitted"], "waiting": row["waiting"]}


def _until(condition: Iterator[bool]) -> None:
    """Poll for at most 20 seconds."""
    deadline = time.monotonic() + 20
    while not next(condition):
        assert time.monotonic() < deadline, "did not happen within 20 s"
        time.sleep(0.05)


def _idle(home: Home) -> Iterator[bool]:
    while True:
        yield _busy(home)["admitted"] == 0


def test_excess_requests_get_429_and_accepted_ones_an_answer(home: Home) -> None:
    with ThreadPoolExecutor(200) as pool:
        body = ask("Count to three.", max_new_tokens=8)
        replies = list(pool.map(lambda _: home.call("/score", body), range(200)))
    statuses = Counter(reply.status_code for reply in replies)
    assert set(statuses) == {200, 429}
    assert statuses[200] >= 18
    assert all(reply.json()["output"] for reply in replies if reply.status_code == 200)
    refused = [reply for reply in replies if reply.status_code == 429]
    assert all(int(reply.headers["Retry-After"]) >= 1 for reply in refused)


def test_client_that_leaves_frees_its_slot(home: Home) -> None:
    """Two slots, four runaway generations abandoned: the next one does not wait for them."""
    endless = ask_openai(LONG, max_tokens=1500, temperature=1.0, stream=True)
    headers = {"Authorization": f"Bearer {home.key()}"}
    for _ in range(4):
        url = f"{home.url}/v1/chat/completions"
        reply = requests.post(url, json=endless, headers=headers, stream=True, timeout=60)
        next(reply.iter_content(64))
        reply.close()
    _until(_idle(home))
    assert home.call("/score", ask("Hello", max_new_tokens=2)).status_code == 200
    assert [line for line in home.log() if line.get("status") == 499]


def test_client_that_leaves_without_streaming_frees_its_slot(home: Home) -> None:
    with pytest.raises(requests.Timeout):
        requests.post(
            f"{home.url}/score",
            json=ask(LONG, max_new_tokens=1500),
            headers={"Authorization": f"Bearer {home.key()}"},
            timeout=0.5,
        )
    _until(_idle(home))
    # llama.cpp looks once a second whether its client is still there.
    _until(_engine_rests(home))


def _engine_rests(home: Home) -> Iterator[bool]:
    engine = max(_endpoint_process(home).children(), key=lambda process: process.create_time())
    while True:
        before = engine.cpu_times().user
        time.sleep(0.5)
        yield engine.cpu_times().user - before < 0.1


def _send_slowly(home: Home, first: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", home.port), timeout=10) as client:
        client.sendall(first)
        for _ in range(4):
            time.sleep(0.25)
            try:
                client.sendall(b"x")
            except ConnectionError:
                break
        received = b""
        try:
            while block := client.recv(4096):
                received += block
        except ConnectionError:
            pass
        return received


def test_slow_headers_are_cut_off(home: Home) -> None:
    started = time.monotonic()
    assert _send_slowly(home, b"POST /score HTTP/1.1\r\nHost: x\r\nX-Slow: ") == b""
    assert time.monotonic() - started < 6


def test_slow_body_is_408(home: Home) -> None:
    head = (
        f"POST /score HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {home.key()}\r\n"
        "Connection: close\r\nContent-Length: 1000\r\n\r\n"
    )
    assert _send_slowly(home, head.encode()).startswith(b"HTTP/1.1 408 ")


def test_deadline_is_408(make_home: MakeHome) -> None:
    home = make_home("endpoint.request_timeout=0.6")
    assert home.setup("deploy").returncode == 0
    endless = ask(LONG, max_new_tokens=1800, temperature=1.0)
    assert home.call("/score", endless).status_code == 408
    stream = ask_openai(LONG, max_tokens=1800, temperature=1.0, stream=True)
    text = home.call("/v1/chat/completions", stream).text
    assert "request_timeout" in text
    assert "[DONE]" not in text
    _until(_idle(home))


def test_sigterm_under_load_finishes_what_was_accepted(make_home: MakeHome) -> None:
    home = make_home()
    assert home.setup("deploy").returncode == 0
    process = _endpoint_process(home)
    replies: list[Future[requests.Response]] = []
    with ThreadPoolExecutor(10) as pool:
        body = ask(LONG, max_new_tokens=30)
        replies = [pool.submit(home.call, "/score", body) for _ in range(10)]
        _until(_admits(home, 10))
        process.terminate()
        answered = [reply.result() for reply in replies]
    assert [reply.status_code for reply in answered] == [200] * 10
    process.wait(20)
    assert home.log()[-1]["message"] == "stopped"
    assert not (home.folder / "endpoint.pid").exists()


def _admits(home: Home, requests_: int) -> Iterator[bool]:
    while True:
        yield _busy(home)["admitted"] == requests_


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups to signal")
def test_ctrl_c_in_the_foreground_finishes_what_was_accepted(make_home: MakeHome) -> None:
    """The terminal signals the engines too; only the endpoint may act on it."""
    home = make_home()
    assert home.setup("deploy").returncode == 0
    assert home.setup("stop").returncode == 0
    command = [sys.executable, "-m", "setup.serve", str(home.folder)]
    with subprocess.Popen(command, env=home.env, start_new_session=True) as server:
        _until(_answers(home))
        with ThreadPoolExecutor(1) as pool:
            reply = pool.submit(home.call, "/score", ask(LONG, max_new_tokens=40))
            _until(_admits(home, 1))
            os.killpg(server.pid, signal.SIGINT)
            assert reply.result().status_code == 200
        assert server.wait(20) == 0


def test_exit_code_after_sigterm_is_zero(make_home: MakeHome) -> None:
    home = make_home()
    assert home.setup("deploy").returncode == 0
    assert home.setup("stop").returncode == 0
    command = [sys.executable, "-m", "setup.serve", str(home.folder)]
    with subprocess.Popen(command, env=home.env) as server:
        _until(_answers(home))
        server.terminate()
        assert server.wait(20) == 0


def _answers(home: Home) -> Iterator[bool]:
    while True:
        try:
            yield requests.get(f"{home.url}/health", timeout=5).status_code == 200
        except requests.ConnectionError:
            yield False


def test_benchmark_measures_both_servers(make_home: MakeHome) -> None:
    short = ("--rounds", "1", "--tokens", "2", "--calls", "2")
    done = make_home().run("-m", "benchmarks.endpoint", *short)
    assert done.returncode == 0, done.stderr
    assert [line[:3] for line in done.stdout.splitlines() if line[2:3].isdigit()] == [
        "| 1",
        "| 4",
        "| 8",
    ]
    assert "`/score` adds" in done.stdout
