"""An answer out of the engine's: several of them, held JSON seen to be JSON, calls made of text."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from setup.serve.answering.stops import until_stop
from setup.serve.contract.contracts import usage_of
from setup.serve.contract.error_reply import EngineError
from setup.serve.contract.fit import check_answer
from setup.serve.contract.tool_calls import CallForm, Wish
from setup.serve.engine import Engine

_SEEDS = 2**32 - 1  # the last one is none to the engine
_COUNTS = re.compile(rb'"(cache_n|prompt_n|predicted_n)":\s*(\d+)')
_TAIL = 2048  # bytes of a stream, in which the counts are


@dataclass(frozen=True)
class Order:
    """A request as it is asked of an engine, and what becomes of the engine's answer.

    ``body`` is the engine's; ``count`` answers are asked for, each with ``alternatives`` of every
    token (None: none are told). ``form`` and ``wish`` are of the tools that they may call,
    ``schema`` of the JSON that they must be, None where they may be any text.
    """

    body: dict[str, Any]
    count: int = 1
    alternatives: int | None = None
    form: CallForm | None = None
    wish: Wish | None = None
    schema: dict[str, Any] | None = None

    @property
    def as_it_is(self) -> bool:
        """Tell whether the engine's own words can be passed on."""
        is_held = self.form is not None or self.schema is not None
        rewritten = self.count > 1 or is_held or self.body.get("stop")
        return not rewritten and self.alternatives != 0

    def body_of(self, number: int) -> dict[str, Any]:
        """The engine's request for one of the answers; each has a seed of its own."""
        seed = self.body.get("seed", -1)
        if seed < 0 or not number:
            return self.body
        return {**self.body, "seed": (seed + number) % _SEEDS}

    def read(self, text: str, reason: str | None) -> list[dict[str, Any]]:
        """The calls at the end of an answer that ended for ``reason``.

        EngineError where it is not what it was held to.
        """
        cut = reason == "length" or bool(self.body.get("stop"))
        calls = self.form.read(text[self.length(text) :]) if self.form and self.wish else []
        if self.schema is not None and not calls and self.length(text) == len(text):
            check_answer(text, self.schema, cut=cut)
        if self.wish and self.wish.must and not calls and not cut:
            raise EngineError(500, "its answer calls no tool, which it was held to")
        # A call that a stop has cut is none; of one that is cut by its length as much is told.
        return [
            call
            for call in calls
            if self._is_whole(call, cut=cut and call is calls[-1]) or reason == "length"
        ]

    def _is_whole(self, call: dict[str, Any], *, cut: bool) -> bool:
        """Tell whether a call has all its arguments; EngineError where it is none of the tools."""
        schemas, function = self.wish.schemas if self.wish else {}, call["function"]
        if function["name"] not in schemas:
            raise EngineError(500, "its answer calls a function that is not among tools")
        return check_answer(function["arguments"], schemas[function["name"]], cut=cut)

    def length(self, text: str) -> int:
        """The number of characters of the whole answer that are no call."""
        if not self.form or not self.wish:
            return len(text)
        return self.form.text_length(text, self.wish, whole=True)


class Usage:
    """The tokens of all answers to a request: its prompt is counted once."""

    def __init__(self) -> None:
        self._first: dict[str, Any] = {}
        self.completion = 0

    def add(self, usage: dict[str, Any]) -> None:
        """Count one more answer."""
        self._first = self._first or usage
        self.completion += int(usage["completion_tokens"])

    @property
    def prompt(self) -> int:
        """Tokens of the prompt."""
        return int(self._first.get("prompt_tokens", 0))

    def told(self) -> dict[str, Any]:
        """The field ``usage`` of a reply."""
        total = self.prompt + self.completion
        return {**self._first, "completion_tokens": self.completion, "total_tokens": total}


async def complete(engine: Engine, order: Order) -> dict[str, Any]:
    """A chat completion with all answers of ``order``, one after another in the same slot."""
    usage, choices = Usage(), []
    reply: dict[str, Any] = {}
    for number in range(order.count):
        completion = await engine.complete(order.body_of(number))
        usage.add(completion["usage"])
        choices.append(_finish(order, {**completion["choices"][0], "index": number}))
        reply = reply or completion
    return {**reply, "choices": choices, "usage": usage.told()}


def _finish(order: Order, choice: dict[str, Any]) -> dict[str, Any]:
    message, reason = choice["message"], choice["finish_reason"]
    text = message.get("content") or ""
    calls = order.read(text, reason)
    _trim(order, choice)
    said = text[: order.length(text)]
    if len(said) < len(text):
        choice["message"] = {**message, "content": said if said.strip() else None}
    if calls:
        choice["message"]["tool_calls"] = calls
        choice["finish_reason"] = "tool_calls" if reason == "stop" else reason
    return choice


def _trim(order: Order, choice: dict[str, Any]) -> None:
    """Leave out the one alternative that the engine was asked for in place of none."""
    if order.alternatives is not None and choice.get("message") and not choice.get("logprobs"):
        choice["logprobs"] = {"content": []}  # of no whole character
    if order.alternatives == 0:
        for row in (choice.get("logprobs") or {}).get("content") or []:
            row["top_logprobs"] = []


async def stream(engine: Engine, order: Order, usage: Usage) -> AsyncIterator[bytes]:
    """The events of all answers of ``order``, one after another; counted in ``usage``."""
    if order.as_it_is:
        async for piece in _passed_on(engine, order, usage):
            yield piece
        return
    asked = (order.body.get("stream_options") or {}).get("include_usage", False)
    common: dict[str, Any] = {}
    for number in range(order.count):
        body = {**order.body_of(number), "stream_options": {"include_usage": True}}
        answer = _Answer(order, number)
        async with engine.stream(body) as pieces:
            async for event in until_stop(_events(pieces), body.get("stop", [])):
                event.pop("timings", None)
                if event.get("usage"):
                    usage.add(event.pop("usage"))
                choices = event.pop("choices", [])
                common = common or event
                for choice in choices:
                    for told in answer.take(choice):
                        yield _event({"choices": [told], **common})
    if asked:
        yield _event({"choices": [], **common, "usage": usage.told()})
    yield b"data: [DONE]\n\n"


async def _passed_on(engine: Engine, order: Order, usage: Usage) -> AsyncIterator[bytes]:
    tail = b""
    async with engine.stream(order.body) as pieces:
        async for piece in pieces:
            yield piece
            tail = (tail + piece)[-_TAIL:]
    counts = {key.decode(): int(value) for key, value in _COUNTS.findall(tail)}
    usage.add(usage_of(counts))


class _Answer:
    """One answer as it comes: text that may be the start of a call is held back."""

    def __init__(self, order: Order, number: int) -> None:
        self._order, self._number = order, number
        self._text, self._told = "", 0

    def take(self, choice: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what to tell of a piece of the engine's."""
        order, delta, reason = self._order, choice["delta"], choice.get("finish_reason")
        self._text += delta.get("content") or ""
        _trim(order, choice)
        choice["index"] = self._number
        if reason:
            return self._end(choice, reason)
        if not order.form or not order.wish or not delta.get("content"):
            return [choice]
        place = order.form.text_length(self._text, order.wish)
        piece = self._text[self._told : place]
        if not self._text[:place].strip():  # blanks before a call, perhaps
            return []
        self._told = place
        return [{**choice, "delta": {**delta, "content": piece}}] if piece else []

    def _end(self, choice: dict[str, Any], reason: str) -> list[dict[str, Any]]:
        order, deltas = self._order, list[dict[str, Any]]()
        calls = order.read(self._text, reason)
        if order.form:
            rest = self._text[self._told : order.length(self._text)]
            deltas = [{"content": rest}] if rest and (rest.strip() or not calls) else []
        if calls:
            deltas.append({"tool_calls": [{"index": n, **call} for n, call in enumerate(calls)]})
            choice["finish_reason"] = "tool_calls" if reason == "stop" else reason
        return [*({**choice, "delta": delta, "finish_reason": None} for delta in deltas), choice]


async def _events(pieces: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    """The JSON of the server-sent events; EngineError where one tells of a failure."""
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data: {"):
                event = json.loads(line[6:])
                if "error" in event:
                    error = event["error"]
                    raise EngineError(500, str(error.get("message")), str(error.get("type", "")))
                yield event


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"
