"""The time of a run: its work divided by the speed of this machine, step by step."""

from __future__ import annotations

from dataclasses import dataclass

from setup.finetune.forecast.shape import Shape
from setup.finetune.forecast.work import Work, trained_layers
from setup.recipe.local import Finetune

# Where nothing was timed: the share of a product's speed that a whole step reaches, as
# benchmarks/README.md has it, and seconds for what is no product.
_REACHED = 0.5
_ANSWER, _SAVE, _LOAD = 1.5, 0.2, 12.0
_LOADED = 200e6  # bytes of weights read and converted in a second


@dataclass(frozen=True)
class Speeds:
    """Seconds for a computed token: of a step, of the frozen layers, of a measurement.

    ``general`` is as ``measured`` with all layers; ``answer``, ``save`` and ``load`` are seconds
    for one of each.
    """

    step: float
    frozen: float
    measured: float
    general: float
    answer: float
    save: float
    load: float


def seconds(work: Work, speeds: Speeds) -> float:
    """The seconds of a whole run, from its command to its adapter."""
    return (
        speeds.load
        + work.frozen * speeds.frozen
        + work.trained * speeds.step
        + around_steps(work, speeds)
    )


def around_steps(work: Work, speeds: Speeds) -> float:
    """The seconds of all evaluations, the first before any step, and of the checkpoints."""
    times = work.evaluations + 1
    return (
        times * evaluation(work, speeds)
        + 2 * work.general * speeds.general
        + work.checkpoints * speeds.save
    )


def evaluation(work: Work, speeds: Speeds) -> float:
    """The seconds of one held-out loss and the answer beside it."""
    return work.held_out * speeds.measured + speeds.answer


def flop_speeds(shape: Shape, settings: Finetune, work: Work, flop: float, size: int) -> Speeds:
    """Speeds by arithmetic, on a machine that computes ``flop`` in a second in its products.

    ``size`` is the bytes of a frozen weight.
    """
    layers = trained_layers(settings, shape.layers)
    top = layers * shape.layer_weights
    below = (shape.layers - layers) * shape.layer_weights
    labelled = sum(labelled for _, labelled in work.batches) / max(1, work.trained)
    output = shape.width * shape.vocabulary * labelled
    token = 2 / (_REACHED * flop)  # seconds for each weight that a token meets once
    # Forward and back again: frozen matrices have no gradient. Checkpointing goes forward twice.
    passes = 3 if settings.checkpointing else 2
    step = (passes * top + 2 * output + (0 if work.frozen else below)) * token
    return Speeds(
        step=step,
        frozen=below * token,
        measured=(top + output + (0 if work.kept else below)) * token,
        general=shape.weights * token,
        answer=_ANSWER,
        save=_SAVE,
        load=_LOAD + shape.weights * size / _LOADED,
    )
