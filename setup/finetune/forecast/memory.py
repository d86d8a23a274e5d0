"""The most memory that a run holds, by a formula from the model's shape and the batches.

Held against runs of SmolLM2-135M on a CPU: the top ten layers in both precisions, all layers in
single precision. Checkpointing and other sizes of batch follow from the formula alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from setup.finetune.forecast.shape import Shape
from setup.finetune.forecast.work import Work, trained_layers
from setup.recipe.local import Finetune

_PACKAGES = 600 << 20  # bytes of torch, transformers and their like, tokenizer and rows
_TRAINED = 16  # bytes of a trained weight: itself, its gradient, and Adam's two averages
# Numbers that a layer keeps for its gradient, of each token: so many of the model's width (norms,
# projections, attention), and so many of the feed-forward part's. In half precision the norms are
# computed in single precision, which counts twice.
_WIDTHS, _WIDTHS_OF_NORMS, _INNERS = 9, 4, 4
_SINGLE = 4
# Half precision on a CPU: oneDNN compiles its products for every size of a batch, and keeps this
# many of them, two dozen for a step.
_PRODUCTS_A_SHAPE, _PRODUCTS_KEPT, _PRODUCT = 25, 1024, 1_150_000
_SLACK = 1.05  # what an allocator holds and does not use


@dataclass(frozen=True)
class Machine:
    """The part of a machine that memory depends on; ``number_bytes`` of the frozen weights."""

    number_bytes: int
    on_gpu: bool = False


def peak_bytes(shape: Shape, settings: Finetune, work: Work, machine: Machine) -> int:
    """The most bytes that one process holds: of the GPU where it computes there, else resident."""
    size = machine.number_bytes
    layers = trained_layers(settings, shape.layers)
    weights = shape.weights * size
    adapters = shape.trained(settings.rank, layers) * _TRAINED
    steps = max(_step_bytes(shape, settings, batch, size) for batch in work.batches)
    measured = work.largest_measured * shape.vocabulary * (size + 2 * _SINGLE)
    busy = max(steps, measured)
    if machine.on_gpu:
        return round(_SLACK * (weights + adapters + busy))
    kept = work.kept * shape.width * size
    compiled = 0
    if size < _SINGLE:
        compiled = min(work.shapes * _PRODUCTS_A_SHAPE, _PRODUCTS_KEPT) * _PRODUCT
    running = weights + adapters + kept + busy + compiled
    loading = 2 * weights  # the file's pages, and what is made of them
    return _PACKAGES + round(_SLACK * max(running, loading))


def _step_bytes(shape: Shape, settings: Finetune, batch: tuple[int, int], size: int) -> int:
    """Return what a forward pass over a batch leaves for the backward pass."""
    tokens, labelled = batch
    norms = _WIDTHS_OF_NORMS if size < _SINGLE else 0
    layer = ((_WIDTHS + norms) * shape.width + _INNERS * shape.inner) * size
    layers = trained_layers(settings, shape.layers)
    # Recomputed, a layer keeps its input alone, and only one at a time all the rest.
    kept = layer + layers * shape.width * size if settings.checkpointing else layers * layer
    # Logits, their copy in single precision, the probabilities, and the gradients of both.
    output = 2 * size + 2 * _SINGLE + (_SINGLE if size < _SINGLE else 0)
    return tokens * kept + labelled * shape.vocabulary * output
