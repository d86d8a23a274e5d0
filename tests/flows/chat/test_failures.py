"""Every failure of an endpoint through the flow: one line of its own, in time, never an answer."""

from __future__ import annotations

import gzip
import socket
import time
from collections.abc import Sequence

import pytest
from promptflow.exceptions import UserErrorException

from tests.flows.chat.conftest import KEY, Ask, Connect
from tests.scripted.server import Server, Step
from tests.scripted.steps import (
    cut_body,
    delta,
    drop,
    echo_key,
    events,
    huge,
    never,
    raw,
    reply,
    trickle,
)

ERROR = {"error": {"message": "engine\x1b[31m out\nof memory", "code": 500}}
FILTERED = {"error": {"code": "content_filter", "message": "blocked"}}
TOO_LONG = {"error": {"type": "exceed_context_size_error", "message": "too many tokens"}}
HI = {"output": "Hi."}

SCORE = {
    "empty object": (reply({}), "NoOutputError", "answered {}"),
    "error": (reply({"output": None} | ERROR), "EngineError", "engine [31m out of memory"),
    "error as text": (reply({"output": None, "error": "no"}), "EngineError", "no"),
    "filtered": (reply({"output": None} | FILTERED), "ContentBlockedError", "blocked"),
    "empty output": (reply({"output": ""}), "EmptyReplyError", "empty"),
    "blank output": (reply({"output": " \n"}), "EmptyReplyError", "empty"),
    "null output": (reply({"output": None}), "BadPayloadError", "'output'"),
    "output of another type": (reply({"output": ["x"]}), "BadPayloadError", "text in 'output'"),
    "another contract": (reply(["x"]), "BadPayloadError", "of type list"),
    "not JSON": (raw(b"<html>hello"), "BadPayloadError", "not JSON"),
    "nothing": (raw(b""), "BadPayloadError", "not JSON"),
    "deep JSON": (raw(b"[" * 100_000), "BadPayloadError", "not JSON"),
    "invalid UTF-8": (raw(b'{"output": "caf\xe9"}'), "BadPayloadError", "UTF-8"),
    "50 MB": (huge(50, announced=True), "BadPayloadError", "larger than 8 MiB"),
    "50 MB in chunks": (huge(50, announced=False), "BadPayloadError", "larger than 8 MiB"),
    "50 MB compressed": (
        raw(gzip.compress(bytes(50 * 2**20), 1), Content_Encoding="gzip"),
        "BadPayloadError",
        "larger than 8 MiB",
    ),
    "broken compression": (
        raw(b"plain", Content_Encoding="gzip"),
        "BadPayloadError",
        "compression is broken",
    ),
    "cut body": (cut_body(), "CutOffError", "middle of the reply"),
    "400": (echo_key(400), "RequestRefusedError", "bad request"),
    "400 too long": (reply(TOO_LONG, 400), "QuestionTooLargeError", "too many tokens"),
    "400 filtered": (reply(FILTERED, 400), "ContentBlockedError", "blocked"),
    "401": (echo_key(401), "AuthenticationError", "does not accept the key"),
    "403": (echo_key(403), "AuthenticationError", "may not use"),
    "404": (echo_key(404), "NotFoundError", "no such route or deployment"),
    "408": (echo_key(408), "TimedOutError", "gave up"),
    "413": (echo_key(413), "PayloadTooLargeError", "too large"),
    "422": (reply({"detail": [{"loc": ["x"]}]}, 422), "RequestRefusedError", '[{"loc": ["x"]}]'),
    "424": (echo_key(424), "ModelError", "model's own code"),
    "500": (raw(b"<html>", "text/html", 500), "EngineError", "500: the endpoint failed ("),
    "redirect": (
        reply({}, 307, Location=f"http://evil.example/x?{KEY}"),
        "RequestRefusedError",
        "redirects to evil.example/x,",
    ),
    "redirect of its own": (reply({}, 301, Location="/"), "RequestRefusedError", "another path"),
}
MLFLOW = {
    "no row": (reply([]), "BadPayloadError", "a list with one text"),
    "two rows": (reply(["a", "b"]), "BadPayloadError", "a list with one text"),
    "empty text": (reply([""]), "EmptyReplyError", "empty"),
    "prompt alone": (reply(["Hello?"]), "EmptyReplyError", "empty"),
    "error": (reply({"error": "no"}), "EngineError", "no"),
    "401": (echo_key(401), "AuthenticationError", "does not accept the key"),
}
OPENAI = {
    "error": (reply(ERROR), "EngineError", "out of memory"),
    "no choices": (reply({"choices": []}), "BadPayloadError", "'choices'"),
    "no message": (reply({"choices": [{}]}), "BadPayloadError", "'choices'"),
    "empty": (reply({"choices": [{"message": {"content": ""}}]}), "EmptyReplyError", "empty"),
    "null": (reply({"choices": [{"message": {"content": None}}]}), "EmptyReplyError", "empty"),
    "filtered": (
        reply({"choices": [{"message": {"content": "x"}, "finish_reason": "content_filter"}]}),
        "ContentBlockedError",
        "answer",
    ),
    "broken off": (
        reply({"choices": [{"message": {"content": "Hi"}, "finish_reason": "error"}]}),
        "EngineError",
        "broke the answer off (error)",
    ),
    "401": (echo_key(401), "AuthenticationError", "does not accept the key"),
}
STREAM = {
    "cut": (events(delta("Hi"), done=False, cut=True), "CutOffError", "middle of the reply"),
    "no end": (events(delta("Hi"), done=False), "CutOffError", "after 2 characters"),
    "error chunk": (events(delta("Hi"), ERROR), "EngineError", "out of memory"),
    "error event": (
        events(delta("Hi"), 'event: error\ndata: {"message": "no"}'),
        "EngineError",
        "no",
    ),
    "error without a name": (
        events(delta("Hi"), {"object": "error", "message": "no memory", "code": 500}),
        "EngineError",
        "no memory",
    ),
    "detail": (events(delta("Hi"), {"detail": "no memory"}), "EngineError", "no memory"),
    "broken off": (events(delta("Hi"), delta("", "abort")), "EngineError", "after 2 characters"),
    "not JSON": (events(delta("Hi"), "{"), "BadPayloadError", "not JSON"),
    "another shape": (events({"choices": ["x"]}), "BadPayloadError", "choices[0].delta"),
    "invalid UTF-8": (raw(b"data: \xff\n\n", "text/event-stream"), "BadPayloadError", "UTF-8"),
    "empty": (events(delta("", "stop")), "EmptyReplyError", "empty"),
    "filtered": (events(delta("Hi", "content_filter")), "ContentBlockedError", "answer"),
    "401": (echo_key(401), "AuthenticationError", "does not accept the key"),
}
CASES = [
    pytest.param(contract, stream, *case, id=f"{contract}{'-stream' * stream}-{name}")
    for contract, stream, cases in (
        ("score", False, SCORE),
        ("mlflow", False, MLFLOW),
        ("openai", False, OPENAI),
        ("openai", True, STREAM),
    )
    for name, case in cases.items()
]


def fails(ask: Ask, kind: str, says: str, within: float, **inputs: object) -> None:
    """Ask, and check the one line promptflow shows: class, words, place, fix, no key, in time."""
    started = time.monotonic()
    with pytest.raises(UserErrorException) as caught:
        ask(**inputs)
    line = str(caught.value)
    assert time.monotonic() - started < within
    assert line.startswith(f"{kind}: "), line
    assert says in line
    assert "Fix: " in line
    assert line.isprintable()
    assert len(line) < 600
    assert KEY not in line


@pytest.mark.parametrize(("contract", "stream", "step", "kind", "says"), CASES)
def test_failure(
    *,
    server: Server,
    connect: Connect,
    ask: Ask,
    capfd: pytest.CaptureFixture[str],
    contract: str,
    stream: bool,
    step: Step,
    kind: str,
    says: str,
) -> None:
    connect(contract, timeout="30")
    server.play(step)
    fails(ask, kind, says, within=5, stream=stream)
    assert len(server.received) == 1
    assert KEY not in "".join(capfd.readouterr())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("step", [never(), trickle(), trickle(headers=True)])
def test_total_timeout(
    server: Server, connect: Connect, ask: Ask, step: Step, stream: bool
) -> None:
    connect("openai", timeout="1")
    server.play(step)
    fails(ask, "TimedOutError", "no complete answer within 1 s", within=2.5, stream=stream)


def test_trickled_error_body(server: Server, connect: Connect, ask: Ask) -> None:
    def slow_error(handler: object) -> None:
        handler.start(401, content_length="1000")  # type: ignore[attr-defined]
        never()(handler)  # type: ignore[arg-type]

    connect("score", timeout="30")
    server.play(slow_error)
    fails(ask, "AuthenticationError", "401", within=4)


@pytest.mark.parametrize(
    ("steps", "waits"),
    [
        ([reply({}, 429, Retry_After="1"), reply(HI)], 1),
        ([reply({}, 503, Retry_After="0"), reply({}, 502, Retry_After="0"), reply(HI)], 0),
        ([drop(), reply(HI)], 0),
    ],
)
def test_tried_again(
    server: Server, connect: Connect, ask: Ask, steps: Sequence[Step], waits: float
) -> None:
    connect("score")
    server.play(*steps)
    started = time.monotonic()
    assert ask() == "Hi."
    assert waits <= time.monotonic() - started < 4
    assert len(server.received) == len(steps)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, "ThrottledError"),
        (502, "UnavailableError"),
        (503, "UnavailableError"),
        (504, "UnavailableError"),
    ],
)
def test_given_up(server: Server, connect: Connect, ask: Ask, status: int, kind: str) -> None:
    connect("score")
    server.play(reply({}, status, Retry_After="0"))
    fails(ask, kind, "; tried 4 times", within=3)
    assert len(server.received) == 4


@pytest.mark.parametrize("after", ["600", "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_wait_beyond_the_timeout_is_named(
    server: Server, connect: Connect, ask: Ask, after: str
) -> None:
    connect("score", timeout="5")
    server.play(reply({}, 429, Retry_After=after))
    fails(ask, "ThrottledError", "it asks to wait ", within=2)


def test_connection_refused(connect: Connect, ask: Ask) -> None:
    with socket.socket() as held:  # bound, so that no other test listens there
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        connect("score", endpoint=f"http://127.0.0.1:{port}/score?token=hidden", timeout="3")
        fails(ask, "UnavailableError", f"(127.0.0.1:{port}/score)", within=6)


def test_key_is_not_sent_after_a_redirect(server: Server, connect: Connect, ask: Ask) -> None:
    connect("score")
    server.play(reply({}, 302, Location=f"{server.url}/elsewhere"), reply(HI))
    fails(ask, "RequestRefusedError", "redirects to 127.0.0.1/elsewhere", within=3)
    assert [received.path for received in server.received] == ["/score"]
