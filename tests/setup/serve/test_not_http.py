"""What is not HTTP, and clients that hang up: refused as JSON, counted, one line in the log."""

from __future__ import annotations

import gzip
import json
import socket
import time
from typing import Any

import pytest

from tests.home import Home
from tests.setup.serve.replies import refusals

SECRET = "zanzibar"
GET, POST = b"GET / HTTP/1.1\r\nHost: x\r\n", b"POST /score HTTP/1.1\r\nHost: x\r\n"


def _answer(home: Home, sent: bytes) -> tuple[int, dict[str, Any]]:
    """Status and error of the reply after which the connection is closed."""
    with socket.create_connection(("127.0.0.1", home.port), timeout=10) as client:
        client.sendall(sent)
        received = b""
        while block := client.recv(65536):
            received += block
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"application/json" in head
    assert SECRET.encode() not in body
    return int(head.split()[1]), json.loads(body)["error"]


def _lines_since(home: Home, count: int) -> list[dict[str, Any]]:
    """The lines that a request left in the log, once there is one."""
    deadline = time.monotonic() + 20
    while not (lines := home.log()[count:]):
        assert time.monotonic() < deadline, "nothing was logged"
        time.sleep(0.05)
    return lines


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), 400, "malformed_request"),
        (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", 400, "malformed_request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "malformed_request"),
        (GET + b"X: " + SECRET.encode() + b"\x01\r\n\r\n", 400, "malformed_request"),
        (
            POST + b"Transfer-Encoding: chunked\r\n\r\n%b\r\n" % SECRET.encode(),
            400,
            "malformed_request",
        ),
        (POST + b"Content-Encoding: br\r\nContent-Length: 4\r\n\r\nabcd", 400, "bad_request"),
        (GET + b"X: %b\r\n\r\n" % (SECRET.encode() * 1125), 431, "header_too_large"),
        (GET + b"".join(b"X-%d: 1\r\n" % i for i in range(200)) + b"\r\n", 431, "header_too_large"),
    ],
    ids=["tls", "version", "host", "header", "chunk", "brotli", "long", "many"],
)
def test_what_is_not_http_is_refused_and_counted(
    home: Home, sent: bytes, status: int, code: str
) -> None:
    before, lines = refusals(home, code), len(home.log())
    answered, error = _answer(home, sent)
    assert (answered, error["code"], error["type"]) == (status, code, "invalid_request_error")
    assert error["param"] is None
    assert refusals(home, code) == before + 1
    (line,) = _lines_since(home, lines)
    assert (line["level"], line["status"], line["reason"]) == ("INFO", status, code)
    assert SECRET not in json.dumps(line)
    assert "stack" not in line


def test_broken_gzip_leaves_no_stack_in_the_log(home: Home) -> None:
    key = f"Authorization: Bearer {home.key()}\r\n".encode()
    for body in (b"x" * 12, gzip.compress(b"{}")[:12]):
        lines = len(home.log())
        zipped = b"Content-Encoding: gzip\r\nContent-Length: 12\r\nConnection: close\r\n\r\n"
        status, _ = _answer(home, POST + key + zipped + body)
        assert status == 400
        (line,) = _lines_since(home, lines)
        assert (line["level"], line["status"]) == ("INFO", 400)


@pytest.mark.parametrize(
    "head", [b"Content-Length: 99\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n5\r\n"]
)
def test_client_that_hangs_up_in_its_body_leaves_no_stack_in_the_log(
    home: Home, head: bytes
) -> None:
    lines, before = len(home.log()), refusals(home, "client_left")
    with socket.create_connection(("127.0.0.1", home.port), timeout=10) as client:
        client.sendall(POST + f"Authorization: Bearer {home.key()}\r\n".encode() + head + b"{")
    (line,) = _lines_since(home, lines)
    assert (line["level"], line["status"]) == ("INFO", 499)
    assert refusals(home, "client_left") == before + 1
