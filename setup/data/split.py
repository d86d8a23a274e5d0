"""The choice of conversations for the test file: by a seeded hash of how each opens.

Conversations with one opening are on one side, else the test would ask what was learnt by heart.
The opening is the first user turn. Where very many conversations greet alike and part ways after
that, it is the first two user turns, or as many as it takes to tell them apart. Openings of which
conversations are near-duplicates are on the side of the first of them (setup/data/screen.py).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence

from .rows import Message, prompt_key, user_turns

_COUNTERS = 64  # every opening of more than one row in 64 is among the counted
_COMMON = 0.1  # the share of rows from which on an opening is no longer one conversation's
_FEWEST = 3
_CONTINUATIONS = 32  # different ones that are remembered of an opening
_FOLLOWED = 8  # continuations that are looked into, for they may be common, too
_DEPTH = 3
_SEEDS = 1000
_REMEMBERED = 4096
KEY_BYTES = 16


class _Opening:
    """A counted opening: its rows, its text, and how they go on.

    Attributes:
        first: The turns of the first row, until a second one comes: most openings have one only.
        next_turns: Hashes of what the user says next.
        followed: Openings that are one turn longer, by their key.
    """

    __slots__ = ("first", "followed", "next_turns", "rows", "text")

    def __init__(self, text: str, turns: Sequence[str]) -> None:
        self.text, self.rows = text, 1
        self.first: Sequence[str] | None = turns
        self.next_turns: set[bytes] = set()
        self.followed: dict[bytes, _Opening] = {}

    def add(self, key: bytes, turns: Sequence[str], depth: int) -> None:
        """Count one more row; ``depth`` of its turns are the opening."""
        self.rows += 1
        first, self.first = self.first, None
        for row in (turns,) if first is None else (first, turns):
            if depth < len(row):
                self._go_on(key, row, depth)

    def _go_on(self, key: bytes, turns: Sequence[str], depth: int) -> None:
        turn = prompt_key(turns[depth])
        if len(self.next_turns) < _CONTINUATIONS:
            self.next_turns.add(turn)
        longer = _digest(key, turn)
        if longer in self.followed:
            self.followed[longer].add(longer, turns, depth + 1)
        elif depth < _DEPTH and len(self.followed) < _FOLLOWED:
            self.followed[longer] = _Opening(turns[depth], turns)

    def common(self, key: bytes, fewest: float) -> dict[bytes, str]:
        """Keys and texts of this opening and longer ones, if many rows go on differently."""
        if self.rows < fewest:
            return {}
        longer = [opening.common(key, fewest) for key, opening in self.followed.items()]
        inner = {key: text for keys in longer for key, text in keys.items()}
        parts_ways = len(self.next_turns) >= min(_CONTINUATIONS, self.rows / 2)
        return {key: self.text, **inner} if inner or parts_ways else {}


class Splitter:
    """Decides the side of each conversation, in the order in which they come.

    It counts the openings as it goes (the algorithm of Misra and Gries: a fixed number of counters
    misses no frequent one). When ``common`` names any at the end, the split is to be done again
    with a new one that looks past them. ``followers`` are openings, each with the one it follows.
    """

    def __init__(
        self,
        test_ratio: float,
        seed: int,
        past: Collection[bytes] = (),
        followers: Mapping[bytes, bytes] | None = None,
    ) -> None:
        self.test_ratio, self.past, self._followers = test_ratio, past, followers or {}
        self.rows = 0
        self._is_test = _chooser(test_ratio, seed)
        self._counted: dict[bytes, _Opening] = {}
        self._groups: set[bytes] = set()

    def opening(self, messages: Sequence[Message]) -> bytes:
        """The key of how a conversation opens, which is counted."""
        turns = user_turns(messages)
        key, depth = prompt_key(turns[0]), 1
        while key in self.past and depth < len(turns):
            key = _digest(key, prompt_key(turns[depth]))
            depth += 1
        self._count(key, turns, depth)
        return key

    def leader(self, opening: bytes) -> bytes:
        """The opening that decides for this one, which most openings do themselves."""
        return self._followers.get(opening, opening)

    def is_test(self, opening: bytes) -> bool:
        """Tell whether a conversation that opens so goes to the test file."""
        leader = self.leader(opening)
        if len(self._groups) < _REMEMBERED:
            self._groups.add(leader)
        return self._is_test(leader)

    def common(self) -> dict[bytes, str]:
        """Openings of many rows that go on differently: their keys, and their last turns."""
        fewest = max(_FEWEST, self.rows * _COMMON)
        return {
            key: text
            for first, opening in self._counted.items()
            if first not in self.past
            for key, text in opening.common(first, fewest).items()
        }

    def seed_for_both(self) -> int | None:
        """The first seed with rows on both sides; None where there is no telling them apart."""
        for seed in range(_SEEDS):
            if len(set(map(_chooser(self.test_ratio, seed), self._groups))) == 2:
                return seed
        return None

    def _count(self, key: bytes, turns: Sequence[str], depth: int) -> None:
        self.rows += 1
        opening = self._counted.get(key)
        if opening is not None:
            opening.add(key, turns, depth)
        elif len(self._counted) < _COUNTERS:
            self._counted[key] = _Opening(turns[depth - 1], turns)
        else:
            for counted in self._counted.values():
                counted.rows -= 1
            self._counted = {key: left for key, left in self._counted.items() if left.rows}


def _chooser(test_ratio: float, seed: int) -> Callable[[bytes], bool]:
    """A function that tells, of the key of an opening, whether it goes to the test file."""
    seeded = hashlib.blake2b(digest_size=8, salt=seed.to_bytes(16, "big", signed=True))
    limit = math.ceil(test_ratio * 2**64)

    def is_test(key: bytes) -> bool:
        digest = seeded.copy()
        digest.update(key)
        return int.from_bytes(digest.digest(), "big") < limit

    return is_test


def _digest(*keys: bytes) -> bytes:
    return hashlib.blake2b(b"".join(keys), digest_size=KEY_BYTES).digest()
