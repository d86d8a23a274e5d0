"""Which conversations are seen in which step: decided before the first one, by the seed alone."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import pairwise

_SORTED_TOGETHER = 50  # steps: enough that neighbours are of one length, few enough to mix


def plan_batches(
    lengths: Sequence[int], rows: int, epochs: float, seed: int, group: int = 1
) -> list[list[int]]:
    """Batches of at most ``rows`` row numbers of similar length, for the whole run.

    ``group`` batches in succession are one step: those that accumulate and those that different
    processes take at the same time, who must not wait for each other and so are of similar length
    too. Every row comes once an epoch (more often only where the last step has fewer rows than
    batches); a fraction of an epoch is its first steps. The whole plan follows from the
    arguments, which is what makes a resumed run equal to one that was never stopped.
    """
    fraction, whole = math.modf(epochs)
    steps_per_epoch = len(lengths) / (rows * group)
    wanted = int(whole) * math.ceil(steps_per_epoch) + int(fraction * steps_per_epoch + 1e-9)
    steps: list[list[int]] = []
    epoch = 0
    while len(steps) < max(1, wanted):
        steps += _one_epoch(lengths, rows * group, random.Random(f"{seed}:{epoch}"))  # noqa: S311
        epoch += 1
    return [batch for step in steps[: max(1, wanted)] for batch in _dealt(step, rows, group)]


def _one_epoch(lengths: Sequence[int], rows: int, rng: random.Random) -> list[list[int]]:
    """The rows of each step, ``rows`` of them but in the last."""
    order = list(range(len(lengths)))
    rng.shuffle(order)
    together = rows * _SORTED_TOGETHER
    steps: list[list[int]] = []
    for start in range(0, len(order), together):
        part = sorted(order[start : start + together], key=lambda row: lengths[row])
        steps += [part[i : i + rows] for i in range(0, len(part), rows)]
    rng.shuffle(steps)
    return steps


def _dealt(step: list[int], rows: int, group: int) -> list[list[int]]:
    """A step's rows as ``group`` batches; where rows are missing, every batch has fewer."""
    if len(step) == rows * group:
        return [step[i : i + rows] for i in range(0, len(step), rows)]
    step = (step * group)[: max(group, len(step))]
    cuts = [batch * len(step) // group for batch in range(group + 1)]
    return [step[first:last] for first, last in pairwise(cuts)]
