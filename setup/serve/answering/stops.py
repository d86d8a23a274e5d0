"""The stops of a stream, seen to here: the engine keeps what it holds back for one to itself.

Where its tokens are used up in the middle of what may be a stop, it never sends that text. So it
is not told of stops, and an answer ends with the first that comes, in the same token as it would.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from setup.serve.contract.contracts import usage_of

Event = dict[str, Any]


class _Held:
    """Text that may be the start of a stop, and the log probabilities of its tokens."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops, self._text = stops, ""
        self._rows: list[tuple[int, Event]] = []  # each with the place where its token ends
        self._read = self._told = 0

    def add(self, text: str, rows: Sequence[Event]) -> None:
        """Take one more piece."""
        self._text += text
        end = self._read
        self._read += len(text)
        for row in rows:
            end = min(end + len(row.get("token") or ""), self._read)
            self._rows.append((end, row))

    def release(self, whole: bool = False) -> tuple[str, list[Event], bool]:
        """Return the text that can be told, its rows, and whether a stop has come after it.

        ``whole``: nothing follows, so that nothing can be the start of a stop.
        """
        places = [place for stop in self._stops if (place := self._text.find(stop)) >= 0]
        end = min(places, default=len(self._text) if whole else self._sure())
        told, self._text = self._text[:end], self._text[end:]
        self._told += len(told)
        rows = [row for place, row in self._rows if place <= self._told]
        self._rows = self._rows[len(rows) :]
        return told, rows, bool(places)

    def _sure(self) -> int:
        """The number of characters that no stop can begin with."""
        longest = min(len(self._text), max(map(len, self._stops)) - 1)
        starts = (self._text[-size:] for size in range(longest, 0, -1))
        begun = next((s for s in starts if any(stop.startswith(s) for stop in self._stops)), "")
        return len(self._text) - len(begun)


async def until_stop(events: AsyncIterator[Event], stops: Sequence[str]) -> AsyncIterator[Event]:
    """The events of one answer up to the first of ``stops``, the last one with the usage."""
    if not stops:
        async for event in events:
            yield event
        return
    held = _Held(stops)
    async for event in events:
        choice = next(iter(event.get("choices") or []), None)
        if choice is None:
            yield event
            continue
        delta, reason = choice["delta"], choice.get("finish_reason")
        held.add(delta.pop("content", None) or "", _rows(choice.pop("logprobs", None)))
        told, rows, is_over = held.release(whole=bool(reason))
        if told:
            logprobs = {"logprobs": {"content": rows}} if rows else {}
            said = {**choice, "delta": {**delta, "content": told}, "finish_reason": None}
            yield {**event, "choices": [said | logprobs]}
            delta = {}
        if is_over:
            end = {**choice, "delta": {}, "finish_reason": "stop"}
            yield {**event, "choices": [end], "usage": usage_of(event["timings"])}
            return
        if reason or delta:
            yield {**event, "choices": [{**choice, "delta": delta}]}


def _rows(logprobs: Any) -> list[Event]:
    return list((logprobs or {}).get("content") or [])
