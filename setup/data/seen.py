"""A memory of the conversations that were seen before, at eight bytes a row."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

from .rows import Message, conversation_key, letters, turn_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Keys = NDArray[np.uint64]

_ALL = 2**64 - 1
_EXACT = 2**24 - 1  # the bits of a quick key that tell texts apart to the last character
_ALIKE = _ALL ^ _EXACT  # those that texts of the same letters and digits share
_FEWEST_LETTERS = 16
_PLAIN = 2  # a turn of nothing but role and content


def quick_key(messages: Sequence[Message], closely: Container[int] | None) -> int:
    """64 bits that are equal when two conversations are equal to the letter.

    Two that have the same letters and digits share the upper 40 of them, whether they are equal
    after `normalise` or not. Those whose upper bits are in ``closely`` (None: all) are looked at
    closely, which takes ten times as long: their bits are equal exactly when they are.
    """
    if closely is not None:
        contents = [
            turn["content"] if len(turn) == _PLAIN else turn_text(turn) for turn in messages
        ]
        said = letters("\n".join(contents))
        alike = hash(said) & _ALIKE
        if len(said) >= _FEWEST_LETTERS and alike not in closely:
            return alike | hash(tuple(contents)) & _EXACT
    return int.from_bytes(conversation_key(messages)[:8], "little")


class SeenKeys:
    """A set of 64-bit keys that only grows: 8 bytes a key, where a Python set takes about 100.

    It keeps sorted runs and merges a run into its neighbour as soon as it is as long, so there are
    only logarithmically many. Among a million different conversations, the chance of one false
    duplicate is about 1 in 37 million. ``alike`` holds the upper bits that different keys share.
    """

    def __init__(self) -> None:
        self.alike: set[int] = set()
        self._runs: list[Keys] = []

    def add(self, keys: Sequence[int]) -> list[bool]:
        """Adds a batch; says for each key whether it was there, in this batch or before."""
        import numpy as np

        batch = np.fromiter(keys, np.uint64, len(keys))
        unique, first = np.unique(batch, return_index=True)
        seen = np.ones(len(batch), dtype=bool)
        seen[first] = self._contains(unique, _ALL)
        new = unique[~seen[first]]
        upper, counts = np.unique(new & np.uint64(_ALIKE), return_counts=True)
        self.alike.update(upper[(counts > 1) | self._contains(upper, _ALIKE)].tolist())
        self._push(new)
        return [bool(was) for was in seen]

    def know(self, keys: Sequence[int]) -> list[bool]:
        """Says for each key of a batch whether it was there before; adds none."""
        import numpy as np

        batch = np.fromiter(keys, np.uint64, len(keys))
        return [bool(was) for was in self._contains(batch, _ALL)]

    def _contains(self, keys: Keys, mask: int) -> NDArray[np.bool_]:
        import numpy as np

        known = np.zeros(len(keys), dtype=bool)
        for run in self._runs:
            places = np.minimum(np.searchsorted(run, keys), len(run) - 1)
            known |= (run[places] & np.uint64(mask)) == keys
        return known

    def _push(self, run: Keys) -> None:
        import numpy as np

        if not len(run):
            return
        while self._runs and len(self._runs[-1]) <= len(run):
            run = np.concatenate([self._runs.pop(), run])
        run.sort()
        self._runs.append(run)
