"""A memory of the keys that were seen before, at a fixed few bytes a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Keys = NDArray[np.uint64]


class SeenKeys:
    """A set of keys that only grows: 8 bytes a key, where a Python set takes about 100.

    It keeps sorted runs and merges a run into its neighbour as soon as it is as long, so there are
    only logarithmically many. Of a key its first 8 bytes count: among a million different
    conversations, the chance of one false duplicate is about 1 in 37 million.
    """

    def __init__(self) -> None:
        self._runs: list[Keys] = []

    def add(self, keys: Sequence[bytes]) -> list[bool]:
        """Adds a batch; says for each key whether it was there, in this batch or before."""
        import numpy as np  # noqa: PLC0415  (the package must import quickly)

        batch = np.frombuffer(b"".join(key[:8] for key in keys), dtype=np.uint64)
        unique, first = np.unique(batch, return_index=True)
        seen = np.ones(len(batch), dtype=bool)
        seen[first] = self._contains(unique)
        self._push(unique[~seen[first]])
        return [bool(was) for was in seen]

    def _contains(self, keys: Keys) -> NDArray[np.bool_]:
        import numpy as np  # noqa: PLC0415

        known = np.zeros(len(keys), dtype=bool)
        for run in self._runs:
            places = np.minimum(np.searchsorted(run, keys), len(run) - 1)
            known |= run[places] == keys
        return known

    def _push(self, run: Keys) -> None:
        import numpy as np  # noqa: PLC0415

        if not len(run):
            return
        while self._runs and len(self._runs[-1]) <= len(run):
            run = np.concatenate([self._runs.pop(), run])
        run.sort()
        self._runs.append(run)
