"""Key, queue and size come before a body; asked over raw sockets that send it late or never."""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from tests.conftest import MakeHome
from tests.home import Home, ask, ask_openai

CHAT = "/v1/chat/completions"
UNAUTHORIZED = "HTTP/1.1 401 "
SHORT = json.dumps(ask("Hi", max_new_tokens=1)).encode()


@pytest.fixture(scope="module")
def home(make_home: MakeHome) -> Home:
    """One slot, one more place, and five seconds for a body."""
    sizes = ("endpoint.slots=1", "endpoint.queue=1", "endpoint.read_timeout=5")
    home = make_home(*sizes, "model.context_window=512")
    done = home.setup("deploy")
    assert done.returncode == 0, done.stderr
    return home


class Client:
    """A connection whose head is sent at once, and the body when the test says so."""

    def __init__(self, home: Home, route: str, key: str | None, *headers: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", home.port), timeout=20)
        lines = [f"POST {route} HTTP/1.1", "Host: x", "Connection: close", *headers]
        if key is not None:
            lines.append(f"Authorization: Bearer {key}")
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode())

    def send(self, body: bytes) -> None:
        """Some of the body."""
        self._socket.sendall(body)

    def read(self) -> str:
        """The next that the endpoint says."""
        return self._socket.recv(65536).decode()

    def close(self) -> None:
        """Leave."""
        self._socket.close()


@pytest.fixture
def open_client(home: Home) -> Iterator[Any]:
    """Open clients that leave after the test; those with a place have it when they are returned."""
    with ExitStack() as stack:

        def open_(route: str = "/score", *headers: str, key: str | None = None) -> Client:
            return stack.enter_context(closing(Client(home, route, key, *headers)))

        yield open_
    _until(home, 0)


def _until(home: Home, admitted: int, name: str = "base") -> None:
    deadline = time.monotonic() + 20
    while home.manage("GET").json()["deployments"][name]["admitted"] != admitted:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _length(body: bytes) -> str:
    return f"Content-Length: {len(body)}"


@pytest.mark.parametrize("route", ["/score", CHAT, "/tokenize", "/manage/drain", "/nowhere"])
@pytest.mark.parametrize("key", [None, "wrong"])
def test_stranger_is_refused_before_the_body(open_client: Any, route: str, key: str | None) -> None:
    assert open_client(route, "Content-Length: 1000000", key=key).read().startswith(UNAUTHORIZED)
    if route != "/nowhere":
        headers = ("Content-Length: 1000000", "Expect: 100-continue")
        assert open_client(route, *headers, key=key).read().startswith(UNAUTHORIZED)


@pytest.mark.parametrize("route", ["/score", CHAT, "/tokenize"])
def test_too_large_a_body_is_refused_before_it_comes(
    home: Home, open_client: Any, route: str
) -> None:
    headers = ("Content-Length: 2000000", "Expect: 100-continue")
    assert open_client(route, *headers, key=home.key()).read().startswith("HTTP/1.1 413 ")


def test_body_without_a_length_ends_at_the_limit(home: Home, open_client: Any) -> None:
    client = open_client("/score", "Transfer-Encoding: chunked", key=home.key())
    for _ in range(17):
        client.send(b"10000\r\n" + b" " * 65536 + b"\r\n")
    assert client.read().startswith("HTTP/1.1 413 ")
    bomb = gzip.compress(b" " * 50_000_000)
    headers = ("Content-Encoding: gzip", _length(bomb))
    client = open_client("/score", *headers, key=home.key())
    client.send(bomb)
    assert client.read().startswith("HTTP/1.1 413 ")


def test_client_that_asks_first_is_told_to_go_on(home: Home, open_client: Any) -> None:
    client = open_client("/score", _length(SHORT), "Expect: 100-continue", key=home.key())
    assert client.read().startswith("HTTP/1.1 100 Continue")
    client.send(SHORT)
    assert client.read().startswith("HTTP/1.1 200 OK")


def test_full_queue_answers_before_the_body(home: Home, open_client: Any) -> None:
    slow = [open_client("/score", _length(SHORT), key=home.key()) for _ in range(2)]
    _until(home, 2)
    for route in ("/score", CHAT):
        refused = open_client(route, "Content-Length: 1000000", key=home.key()).read()
        assert refused.startswith("HTTP/1.1 429 ")
        assert "Retry-After: " in refused
        assert '"rate_limit_error"' in refused
    for client in slow:
        client.send(SHORT)
        assert client.read().startswith("HTTP/1.1 200 OK")


def test_slow_body_holds_no_slot(home: Home, open_client: Any) -> None:
    slow = open_client("/score", _length(SHORT), key=home.key())
    slow.send(SHORT[:20])
    _until(home, 1)
    assert home.manage("GET").json()["deployments"]["base"]["waiting"] == 1
    for _ in range(3):
        assert home.call("/score", ask("Hi", max_new_tokens=1)).status_code == 200
    slow.send(SHORT[20:])
    assert slow.read().startswith("HTTP/1.1 200 OK")


def test_body_that_never_comes_gives_its_place_back(home: Home, open_client: Any) -> None:
    late = open_client("/score", _length(SHORT), key=home.key())
    gone = open_client("/score", _length(SHORT), key=home.key())
    _until(home, 2)
    gone.close()
    _until(home, 1)
    told = late.read()
    assert told.startswith("HTTP/1.1 408 ")
    assert '"timeout_error"' in told
    _until(home, 0)


def test_full_deployment_does_not_stop_another_one(home: Home, open_client: Any) -> None:
    row = home.manage("GET").json()["deployments"]["base"]
    state = {"threads", "healthy", "failure", "admitted", "waiting", "traffic"}
    settings = {name: row[name] for name in set(row) - state}
    assert home.manage("PUT", "/deployments/second", settings).status_code == 201
    slow = [open_client("/score", _length(SHORT), key=home.key()) for _ in range(2)]
    _until(home, 2)
    for model, status in (("second", 200), ("base", 429), ("phi-local", 429), ("nope", 404)):
        body = ask_openai("Hi", max_tokens=1, model=model)
        assert home.call(CHAT, body).status_code == status
    _until(home, 0, "second")
    for client in slow:
        client.send(SHORT)
        assert client.read().startswith("HTTP/1.1 200 OK")
    assert home.manage("DELETE", "/deployments/second").status_code == 204
