"""What a scripted endpoint can do with a request: well-formed replies, then mishaps."""

from __future__ import annotations

import json
from typing import Any

from tests.scripted.server import Handler, Step


def reply(value: Any, status: int = 200, **headers: str) -> Step:
    """``value`` as JSON."""
    return raw(
        json.dumps(value, ensure_ascii=False).encode(), "application/json", status, **headers
    )


def raw(
    body: bytes, content_type: str = "application/json", status: int = 200, **headers: str
) -> Step:
    """``body`` as it is."""

    def step(handler: Handler) -> None:
        length = str(len(body))
        handler.start(status, content_type=content_type, content_length=length, **headers)
        handler.wfile.write(body)

    return step


def echo_key(status: int) -> Step:
    """An error whose body repeats the request's Authorization header, as careless servers do."""

    def step(handler: Handler) -> None:
        said = {"error": {"message": f"no luck with {handler.headers['authorization']}"}}
        reply(said, status)(handler)

    return step


def events(*chunks: Any, done: bool = True, cut: bool = False) -> Step:
    """Server-sent events in chunked encoding; ``cut`` leaves out the last chunk."""

    def step(handler: Handler) -> None:
        handler.start(content_type="text/event-stream", transfer_encoding="chunked")
        for chunk in [*chunks, *(["[DONE]"] if done else [])]:
            data = chunk if isinstance(chunk, str) else json.dumps(chunk, ensure_ascii=False)
            line = data if data.startswith((":", "event:")) else f"data: {data}"
            _chunk(handler, f"{line}\n\n".encode())
        if cut:
            handler.cut()
        else:
            handler.wfile.write(b"0\r\n\r\n")

    return step


def delta(text: str, finish_reason: str | None = None) -> dict[str, Any]:
    """One chunk of contract C."""
    return {"choices": [{"delta": {"content": text}, "finish_reason": finish_reason}]}


def never() -> Step:
    """Accept and say nothing."""

    def step(handler: Handler) -> None:
        handler.server.stopping.wait(60)
        handler.cut()

    return step


def trickle(*, headers: bool = False) -> Step:
    """One byte each 50 ms, for ever: of the body, or of a header."""

    def step(handler: Handler) -> None:
        if headers:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        else:
            handler.start(content_type="application/json", content_length="100000")
        while not handler.server.stopping.wait(0.05):
            handler.wfile.write(b"x" if headers else b" ")
        handler.cut()

    return step


def cut_body() -> Step:
    """Half of the body that the headers promise."""

    def step(handler: Handler) -> None:
        handler.start(content_type="application/json", content_length="100")
        handler.wfile.write(b'{"output": "only the fir')
        handler.cut()

    return step


def drop() -> Step:
    """Reset the connection instead of an answer."""
    return Handler.reset


def huge(megabytes: int, *, announced: bool) -> Step:
    """A valid reply of so many MiB, with its length announced or in chunks."""

    def step(handler: Handler) -> None:
        piece = b"x" * 2**20
        if announced:
            handler.start(content_length=str(megabytes * 2**20))
        else:
            handler.start(transfer_encoding="chunked")
        for _ in range(megabytes):
            if announced:
                handler.wfile.write(piece)
            else:
                _chunk(handler, piece)
        handler.cut()

    return step


def _chunk(handler: Handler, data: bytes) -> None:
    handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
    handler.wfile.flush()
