"""Server-sent events of contract C: bytes to answer pieces.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from .errors import BadPayloadError, CutOffError, ReasoningError
from .reasoning import Thinking, lacks_opening
from .reply import Reply, Said, bad_shape, counts_of, engine_error, finished, read_message
from .settings import Settings


def stream_reply(pieces: Iterable[bytes], settings: Settings) -> Generator[str, None, Reply]:
    """Yield the answer as it comes, without the thinking in front of it; returns the whole reply.

    A stream that ends with neither a ``finish_reason`` nor ``[DONE]`` is a CutOffError.
    """
    stream, thinking, answer = _Stream(), Thinking(), ""
    for name, data in _events(pieces):
        if data == "[DONE]":
            stream.done = True
            break
        if piece := thinking.feed(stream.take(_chunk(name, data, settings), settings)):
            answer += piece
            yield piece
    if not stream.done and not stream.reason:
        raise CutOffError(
            f"the stream ended after {len(answer)} characters without saying it was complete",
            fix="ask again; if it stays, see the endpoint's log for a restart",
        )
    if piece := thinking.end():
        yield piece
        answer += piece
    said = replace(stream.said, reasoning=stream.said.reasoning + thinking.text)
    finished(answer, stream.reason, settings, said)
    if not thinking.met and lacks_opening(answer):
        raise ReasoningError(
            "the model's thinking came without the tag that opens it, and was shown",
            fix="set the chat node's 'stream' to false in flow.dag.yaml, or let the server part "
            "it off",
        )
    thought = said.reasoning.strip()
    return Reply(answer.strip(), stream.reason, stream.usage, stream.model, thought)


@dataclass
class _Stream:
    """The content of the chunks so far, beside the text."""

    said: Said = field(default_factory=Said)
    reason: str = ""
    usage: dict[str, int] = field(default_factory=dict)
    model: str = ""
    done: bool = False

    def take(self, chunk: dict[str, Any], settings: Settings) -> str:
        """The text of ``chunk``; one of usage alone has no choices."""
        choices = chunk.get("choices") or [{}]
        choice = _first(choices) if isinstance(choices, list) else None
        delta = (choice.get("delta") or {}) if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(delta, dict):
            raise bad_shape(chunk, "a chunk with choices[0].delta", settings)
        said = read_message(delta, "choices[0].delta", settings)
        self.said = Said("", self.said.reasoning + said.reasoning, self.said.tools + said.tools)
        self.reason = str(choice.get("finish_reason") or "") or self.reason
        self.usage = counts_of(chunk) or self.usage
        self.model = str(chunk.get("model") or self.model)
        return said.text


def _first(choices: list[Any]) -> Any:
    """The answer out of several: a server may give more than it was asked for."""
    return next((one for one in choices if not isinstance(one, dict) or not one.get("index")), {})


def _chunk(name: str, data: str, settings: Settings) -> dict[str, Any]:
    try:
        chunk = json.loads(data)
    except (ValueError, RecursionError):
        what = "an event of the stream is not JSON"
        raise BadPayloadError(what, fix="see the endpoint's log") from None
    if not isinstance(chunk, dict):
        raise bad_shape(chunk, "a chunk with choices[0].delta", settings)
    if name == "error" or chunk.get("error"):
        raise engine_error(chunk.get("error", chunk), settings)
    if not chunk.get("choices") and (chunk.get("message") or chunk.get("detail")):
        raise engine_error(chunk, settings)  # {"object": "error", "message": …}, {"detail": …}
    return chunk


def _events(pieces: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """Name and data of each event; ids, comments and an unfinished last event are left out."""
    name, data = "", list[str]()
    for line in _lines(pieces):
        label, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield name, "\n".join(data)
            name, data = "", list[str]()
        elif label == "data":
            data.append(value)
        elif label == "event":
            name = value


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """Lines without their end, LF or CRLF; characters may be split between pieces."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    rest: list[str] = []
    for piece in pieces:
        try:
            text = decoder.decode(piece)
        except UnicodeDecodeError:
            what = "the stream is not valid UTF-8"
            raise BadPayloadError(what, fix="see the endpoint's log") from None
        *lines, last = text.split("\n")
        for line in lines:
            yield ("".join(rest) + line).rstrip("\r")
            rest = []
        rest.append(last)
