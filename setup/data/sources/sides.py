"""The side of rows that do not just go where their opening says, and what is said of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from setup.data.formats.rules import uses_tools
from setup.data.rows import Message, prompt_key, user_turns
from setup.data.split import Splitter

from .stream import Stream

_TIMES = {0: "not at all", 1: "once", 2: "twice"}


class Sides:
    """Decides the side of each row; a row with tools is never tested on.

    An evaluation asks for text by a question and a history, and could neither offer a tool nor
    answer for one: of such a row it would measure something else. What opens as such a row does
    goes to train as well, else the test would ask what was learnt by heart.

    Args:
        splitter: Decides by the opening.
        openings: Keys of the openings that are known to be of rows with tools.
    """

    def __init__(self, splitter: Splitter, openings: frozenset[bytes]) -> None:
        self.splitter, self._openings, self._late = splitter, openings, set[bytes]()
        self.with_tools = self._moved = self._untested = 0
        self._taken: dict[str, tuple[Stream, Counter[int]]] = {}

    def opening(self, messages: list[Message], stream: Stream) -> bytes:
        """The key of how a conversation opens; counted where that decides."""
        if stream.side:
            return prompt_key(user_turns(messages)[0])
        return self.splitter.opening(messages)

    def is_test(self, row: dict[str, Any], stream: Stream, opening: bytes) -> bool | None:
        """Tell the side of ``row``; None for none, which is one with tools in a test split."""
        has_tools = uses_tools(row)
        if stream.side:
            is_test = stream.side == "test"
            self._untested += has_tools and is_test
            return None if has_tools and is_test else is_test
        is_test = self.splitter.is_test(opening)
        self.with_tools += has_tools
        if not is_test or not (has_tools or self._openings):
            return is_test
        leader = self.splitter.leader(opening)
        if has_tools:
            self._moved += 1
            if leader not in self._openings:
                self._late.add(leader)
        elif leader in self._openings:
            self._moved += 1
            return False
        return not has_tools

    def goes_to_test(self, opening: bytes) -> bool:
        """Tell whether rows that open so are tested on, as far as it is known now."""
        tools = self.splitter.leader(opening) in self._openings
        return self.splitter.is_test(opening) and not tools

    def copies(
        self, messages: list[Message], stream: Stream, is_test: bool | None, seed: int
    ) -> int:
        """The times that a row is written: as its weight says, to test once at most."""
        if is_test is None:
            return 0
        if stream.origin.weight == 1:
            return 1
        copies = stream.copies(messages, seed)
        if is_test is False or not copies:
            self._taken.setdefault(stream.origin.source, (stream, Counter()))[1][copies] += 1
        return min(copies, 1) if is_test else copies

    def moved_late(self) -> frozenset[bytes]:
        """The openings of rows with tools that were not known from the first row on."""
        return frozenset(self._late)

    def notes(self, in_test: int) -> list[str]:
        """Lines on what did not just go where its opening says."""
        lines = []
        if in_test:
            stand = "stands" if in_test == 1 else "stand"
            lines.append(f"{_rows(in_test)} to train on {stand} in data.test: dropped from train")
        if self._untested:
            have = f"{_rows(self._untested)} of data.test {_have(self._untested)} tools"
            lines.append(f"{have}, which an evaluation cannot offer: left out")
        if self.with_tools:
            said = f"{_rows(self.with_tools)} {_have(self.with_tools)} tools, which an evaluation"
            more = f"; {self._moved} with those that open alike would be tested on"
            lines.append(f"{said} cannot offer: train side{more if self._moved else ''}")
        for name, (stream, counts) in self._taken.items():
            times = ", ".join(
                f"{_rows(rows)} {_TIMES.get(copies, f'{copies} times')}"
                for copies, rows in sorted(counts.items())
            )
            lines.append(f"weight {stream.origin.weight:g} of {name}: in train {times}")
        return lines


def _rows(count: int) -> str:
    return f"{count} row{'' if count == 1 else 's'}"


def _have(count: int) -> str:
    return "has" if count == 1 else "have"
