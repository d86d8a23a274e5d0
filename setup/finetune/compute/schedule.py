"""The schedule of a run: the conversations of each step, and the learning rate in it.

Decided before the first step, from the settings and the seed alone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from setup.recipe.local import Finetune

_SORTED_TOGETHER = 50  # steps: enough that neighbours are of one length, few enough to mix
_ROUNDED = 0.1  # of the epochs: less than that is not worth a word


@dataclass(frozen=True)
class Plan:
    """The ``batches`` of row numbers of a whole run, ``group`` of which are one step.

    ``settings`` are those that are used: what so few rows or steps do not allow is cut.
    """

    settings: Finetune
    batches: list[list[int]]
    group: int

    @property
    def steps(self) -> int:
        """The number of times that the weights move."""
        return len(self.batches) // self.group

    def adjusted(self, recipe: Finetune) -> dict[str, dict[str, Any]]:
        """The settings that are not those of ``recipe``, by name."""
        return {
            name: {"recipe": getattr(recipe, name), "used": value}
            for name, value in self.settings
            if value != getattr(recipe, name)
        }

    def remark(self, recipe: Finetune, rows: int, noun: str = "conversation") -> str:
        """A line about what is done otherwise than ``recipe`` says; empty where nothing is."""
        changes = [
            f"{name} {change['used']:g} instead of {change['recipe']:g}"
            for name, change in self.adjusted(recipe).items()
        ]
        evaluations = math.ceil(self.steps / self.settings.evaluate_every)
        if self.settings.patience >= evaluations:
            changes.append(
                f"patience {self.settings.patience} without effect, as evaluate_every "
                f"{self.settings.evaluate_every} measures {_count(evaluations, 'time')}"
            )
        run = f"{_count(rows, noun)} in {_count(self.steps, 'step')}"
        return f"{run}: {', '.join(changes)}" if changes else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number != 1 else "")


def plan_run(settings: Finetune, lengths: Sequence[int], held_out: int, processes: int) -> Plan:
    """The plan for training rows of ``lengths`` tokens, with ``held_out`` rows set aside.

    More rows at once than there are would be none more, and more batches a step than there are
    rows would repeat some of them and not others: both are cut to what holds every row once. One
    step at least is made at the full rate.
    """
    rows = len(lengths)
    batch_rows = min(settings.batch_rows, math.ceil(rows / processes))
    accumulation = min(settings.accumulation, math.ceil(rows / (batch_rows * processes)))
    group = processes * accumulation
    batches = plan_batches(lengths, batch_rows, settings.epochs, settings.seed, group)
    steps = len(batches) // group
    used: dict[str, float] = {
        "batch_rows": batch_rows,
        "accumulation": accumulation,
        "held_out_rows": min(settings.held_out_rows, held_out),
        "warmup_steps": min(settings.warmup_steps, steps - 1),
    }
    steps_per_epoch = rows / (batch_rows * group)
    whole, more = divmod(steps, math.ceil(steps_per_epoch))
    epochs = whole + more / steps_per_epoch
    if abs(epochs - settings.epochs) > _ROUNDED * settings.epochs:
        used["epochs"] = round(epochs, 4)
    return Plan(settings.model_copy(update=used), batches, group)


def by_step(numbers: list[int], group: int) -> list[int]:
    """Add up the ``group`` batches of each step."""
    return [sum(numbers[i : i + group]) for i in range(0, len(numbers), group)]


def rate_share(step: int, warmup_steps: int, steps: int) -> float:
    """The share of the full learning rate at which step number ``step``, from 0, is made.

    It rises evenly for ``warmup_steps``, then falls along half a cosine. From there on it is that
    of transformers' ``get_cosine_schedule_with_warmup``, whose rise begins with a step at zero:
    a run of one step would learn nothing.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * progress))


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
    count = int(whole) * math.ceil(steps_per_epoch) + int(fraction * steps_per_epoch + 1e-9)
    steps: list[list[int]] = []
    epoch = 0
    while len(steps) < max(1, count):
        steps += _one_epoch(lengths, rows * group, random.Random(f"{seed}:{epoch}"))  # noqa: S311
        epoch += 1
    return [batch for step in steps[: max(1, count)] for batch in _dealt(step, rows, group)]


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
