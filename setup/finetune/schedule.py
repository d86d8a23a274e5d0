"""Which conversations are seen in which step: decided before the first one, by the seed alone."""

from __future__ import annotations

import random
from collections.abc import Sequence

_SORTED_TOGETHER = 50  # batches: enough that neighbours are of one length, few enough to mix


def plan_batches(
    lengths: Sequence[int], rows: int, epochs: float, seed: int, group: int = 1
) -> list[list[int]]:
    """Batches of ``rows`` row numbers of similar length, for the whole run.

    Every row comes once an epoch; a fraction of an epoch is its first batches. ``group``
    batches in succession (those that different processes take at the same time) are of similar
    length too, so that no process waits for another. The whole plan follows from the arguments,
    which is what makes a resumed run equal to one that was never stopped.
    """
    wanted = max(1, round(epochs * len(lengths) / rows))
    batches: list[list[int]] = []
    epoch = 0
    while len(batches) < wanted:
        batches += _one_epoch(lengths, rows, random.Random(f"{seed}:{epoch}"), group)  # noqa: S311
        epoch += 1
    return batches[: -(-wanted // group) * group]


def _one_epoch(
    lengths: Sequence[int], rows: int, rng: random.Random, group: int
) -> list[list[int]]:
    order = list(range(len(lengths)))
    rng.shuffle(order)
    together = rows * group * _SORTED_TOGETHER
    groups: list[list[list[int]]] = []
    for start in range(0, len(order), together):
        part = sorted(order[start : start + together], key=lambda row: lengths[row])
        batches = [part[i : i + rows] for i in range(0, len(part), rows)]
        groups += [batches[i : i + group] for i in range(0, len(batches), group)]
    rng.shuffle(groups)
    return [batch for batches in groups for batch in batches]
