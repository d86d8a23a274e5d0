"""The work of a run in numbers: the tokens of each step, and of everything around the steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from setup.finetune.compute.collate import computed_tokens
from setup.finetune.compute.loss import batches_of, fits_in_memory
from setup.finetune.compute.schedule import Plan
from setup.finetune.examples.render import Example
from setup.finetune.forecast.shape import Shape
from setup.recipe.local import Finetune

_HALF_PRECISION, _SINGLE_PRECISION = 2, 4  # bytes of a number


@dataclass(frozen=True)
class Parts:
    """The examples of a run: those trained on, those held out, those of general text."""

    train: Sequence[Example]
    held_out: Sequence[Example]
    general: Sequence[Example]


@dataclass(frozen=True)
class Work:
    """The tokens that one process computes; a shared prefix counts once, padding counts.

    ``steps`` are those of each step, ``batches`` the (tokens, labelled tokens) of each batch,
    ``frozen`` those whose frozen layers are computed once, ``kept`` those remembered of them and
    ``shapes`` the number of different sizes of a batch.
    """

    steps: list[int]
    batches: list[tuple[int, int]]
    frozen: int
    kept: int
    held_out: int
    general: int
    evaluations: int
    checkpoints: int
    shapes: int
    largest_measured: int

    @property
    def trained(self) -> int:
        """The tokens of all steps."""
        return sum(self.steps)


def trained_layers(settings: Finetune, layers: int) -> int:
    """Count the layers of a model of ``layers`` that get adapters."""
    return min(settings.layers, layers) or layers


def measure_work(  # noqa: PLR0913, PLR0917 - what work depends on
    parts: Parts, plan: Plan, shape: Shape, number_bytes: int, window: int = 0, times: int = 1
) -> Work:
    """Add up what ``plan`` makes of ``parts`` on a model of ``shape``.

    There are ``times`` as many examples to train on, of which ``parts`` has one in so many.
    """
    settings = plan.settings
    accumulation = settings.accumulation
    per_step = plan.group // accumulation  # processes, of which this counts the first
    mine = [[parts.train[row] for row in batch] for batch in plan.batches[::per_step]]
    tokens = [computed_tokens(batch, window) for batch in mine]
    labelled = [sum(len(example.labelled) for example in batch) for batch in mine]
    often = list(parts.train) if settings.epochs > 1 else []
    kept = [*often, *parts.held_out]
    is_frozen = trained_layers(settings, shape.layers) < shape.layers
    remembers = is_frozen and fits_in_memory(kept, shape.width * number_bytes * times)
    measured = [_tokens(part, window) for part in (parts.held_out, parts.general)]
    frozen = _tokens(kept, window) if remembers else []
    steps = [sum(tokens[i : i + accumulation]) for i in range(0, len(tokens), accumulation)]
    return Work(
        steps=steps * times,
        batches=list(zip(tokens, labelled, strict=True)),
        frozen=sum(frozen) * times,
        kept=sum(map(len, kept)) * times if remembers else 0,
        held_out=sum(measured[0]),
        general=sum(measured[1]),
        evaluations=math.ceil(plan.steps * times / settings.evaluate_every),
        checkpoints=math.ceil(plan.steps * times / settings.save_every),
        shapes=len({*tokens, *frozen, *measured[0], *measured[1]}),
        largest_measured=max(measured[1], default=0),
    )


def _tokens(examples: Sequence[Example], window: int) -> list[int]:
    """Return the tokens of each batch that is measured or run through the frozen layers."""
    batches = batches_of(sorted(examples, key=len))
    return [computed_tokens(batch, window) for batch in batches]
