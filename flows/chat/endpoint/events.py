"""Server-sent events of contract C: bytes to answer pieces.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Generator, Iterable, Iterator
from typing import Any

from .contracts import Reply, bad_shape, engine_error, finished
from .errors import BadPayloadError, CutOffError
from .settings import Settings, place


def stream_reply(pieces: Iterable[bytes], settings: Settings) -> Generator[str, None, Reply]:
    """Yield the answer as it comes; the generator's return value is the whole reply.

    Raises:
        CutOffError: the stream ended with neither a ``finish_reason`` nor ``[DONE]``.
        EngineError: an event carries an error.
        BadPayloadError, ContentBlockedError, EmptyReplyError
    """
    text, reason, done = "", "", False
    usage: dict[str, int] = {}
    model = ""
    for name, data in _events(pieces, settings):
        if data == "[DONE]":
            done = True
            break
        chunk = _chunk(name, data, settings)
        piece, ended = _delta(chunk, settings)
        reason = ended or reason
        text += piece
        usage, model = chunk.get("usage") or usage, str(chunk.get("model") or model)
        if piece:
            yield piece
    if not done and not reason:
        raise CutOffError(
            f"the stream ended after {len(text)} characters without saying it was complete",
            place(settings.endpoint),
            "ask again; if it stays, see the endpoint's log for a restart",
        )
    finished(text, reason, settings)
    return Reply(text.strip(), reason, usage, model)


def _delta(chunk: dict[str, Any], settings: Settings) -> tuple[str, str]:
    """Text and finish reason of one chunk; a chunk of usage alone has no choices."""
    choices = chunk.get("choices") or [{}]
    choice = choices[0] if isinstance(choices, list) else None
    delta = (choice.get("delta") or {}) if isinstance(choice, dict) else None
    content = (delta.get("content") or "") if isinstance(delta, dict) else None
    if not isinstance(choice, dict) or not isinstance(content, str):
        raise bad_shape(chunk, "a chunk with choices[0].delta", settings)
    return content, str(choice.get("finish_reason") or "")


def _chunk(name: str, data: str, settings: Settings) -> dict[str, Any]:
    try:
        chunk = json.loads(data)
    except (ValueError, RecursionError):
        raise BadPayloadError(
            "an event of the stream is not JSON", place(settings.endpoint), "see the endpoint's log"
        ) from None
    if not isinstance(chunk, dict):
        raise bad_shape(chunk, "a chunk with choices[0].delta", settings)
    if name == "error" or chunk.get("error"):
        raise engine_error(chunk.get("error", chunk), settings)
    return chunk


def _events(pieces: Iterable[bytes], settings: Settings) -> Iterator[tuple[str, str]]:
    """Name and data of each event; ids, comments and an unfinished last event are left out."""
    name, data = "", list[str]()
    for line in _lines(pieces, settings):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield name, "\n".join(data)
            name, data = "", list[str]()
        elif field == "data":
            data.append(value)
        elif field == "event":
            name = value


def _lines(pieces: Iterable[bytes], settings: Settings) -> Iterator[str]:
    """Lines without their end, LF or CRLF; characters may be split between pieces."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    rest: list[str] = []
    for piece in pieces:
        try:
            text = decoder.decode(piece)
        except UnicodeDecodeError:
            raise BadPayloadError(
                "the stream is not valid UTF-8", place(settings.endpoint), "see the endpoint's log"
            ) from None
        *lines, last = text.split("\n")
        for line in lines:
            yield ("".join(rest) + line).rstrip("\r")
            rest = []
        rest.append(last)
