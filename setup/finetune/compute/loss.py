"""Cross entropy on the labelled tokens alone, and nothing computed that is not needed for it.

The vocabulary is never computed for a prompt. Nothing below the lowest adapter changes during a
run, so what those layers make of a conversation is computed once and not again every epoch: with
adapters on the top third of the layers an epoch costs half.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy

from setup.finetune.compute.collate import IGNORED, collate, unpack
from setup.finetune.examples.render import Example

_TOKENS_AT_ONCE = 600
_LAYER = re.compile(r"\.layers\.(\d+)\.")
_LARGEST = 1 << 30  # bytes that may be remembered


def use_answer_loss(model: Any) -> None:
    """Make the causal model inside ``model`` (a PeftModel) return ``{"loss": …}`` alone.

    The output layer of a small model is a fifth of its arithmetic; here it sees the labelled
    positions only. The loss is a mean over them, or, where the Trainer says over how many tokens
    a whole step goes, the sum divided by that.
    """
    inner = model.get_base_model()
    return_answer_loss(inner)
    inner.lowest_trained_layer = _lowest_trained_layer(model)


def return_answer_loss(model: Any) -> None:
    """Make a causal model without adapters return the loss that ``use_answer_loss`` describes."""
    model.forward = types.MethodType(_answer_loss, model)


def _answer_loss(  # noqa: PLR0913 - what the Trainer passes
    self: Any,
    *,
    attention_mask: torch.Tensor,
    labels: torch.Tensor,
    input_ids: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    frozen: torch.Tensor | None = None,
    num_items_in_batch: torch.Tensor | int | None = None,
    **_: Any,
) -> dict[str, torch.Tensor]:
    options = {"attention_mask": attention_mask, "position_ids": position_ids, "use_cache": False}
    if frozen is None:
        hidden = self.model(input_ids=input_ids, **options).last_hidden_state
    else:
        with _layers_only(self.model, slice(self.lowest_trained_layer, None)):
            hidden = self.model(inputs_embeds=frozen, **options).last_hidden_state
    targets = labels[:, 1:]
    picked = targets != IGNORED
    logits = self.lm_head(hidden[:, :-1][picked]).float()
    total = cross_entropy(logits, targets[picked], reduction="sum")
    return {"loss": total / (picked.sum() if num_items_in_batch is None else num_items_in_batch)}


def mean_loss(model: Any, examples: Sequence[Example]) -> float:
    """Mean negative log-likelihood of the labelled tokens, in nats, over all processes."""
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    total = torch.zeros(2, dtype=torch.float64, device="cpu" if device.type == "mps" else device)
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    with torch.inference_mode():
        for batch in _batches(sorted(examples, key=len)[rank::world]):
            inputs = {name: tensor.to(device) for name, tensor in collate(batch).items()}
            loss = model(**inputs, num_items_in_batch=1)["loss"]
            counted = int((inputs["labels"][:, 1:] != IGNORED).sum())
            total += torch.tensor([float(loss), counted], dtype=torch.float64).to(total)
    if world > 1:
        dist.all_reduce(total)
    model.train(training)
    return float(total[0] / total[1])


def _batches(examples: Sequence[Example]) -> Iterator[list[Example]]:
    """``examples`` in their order, in batches of some hundred tokens."""
    batch: list[Example] = []
    for example in examples:
        if batch and len(example) * (len(batch) + 1) > _TOKENS_AT_ONCE:
            yield batch
            batch = []
        batch.append(example)
    if batch:
        yield batch


def worth_remembering(model: Any, examples: Sequence[Example]) -> bool:
    """Tell whether there is anything frozen to remember, and room for it."""
    width = model.config.hidden_size * next(model.parameters()).element_size()
    fits = sum(map(len, examples)) * width <= _LARGEST
    return fits and _lowest_trained_layer(model) > 0


def remember_frozen(
    model: Any, examples: Sequence[Example], on_progress: Callable[[int], None]
) -> list[Example]:
    """``examples`` with ``hidden``, the output (tokens, width) of the frozen layers, in memory.

    ``on_progress`` receives the examples done. Batches are made of all of them sorted by length,
    so that a resumed run computes the very same numbers.
    """
    inner = model.get_base_model()
    order = sorted(range(len(examples)), key=lambda number: len(examples[number]))
    made: dict[int, Example] = {}
    lowest = _lowest_trained_layer(model)
    device = next(model.parameters()).device
    numbers = iter(order)
    with torch.no_grad(), _layers_only(inner.model, slice(0, lowest), norm=False):
        for batch in _batches([examples[number] for number in order]):
            inputs = {name: value.to(device) for name, value in collate(batch).items()}
            del inputs["labels"]
            output = inner.model(**inputs, use_cache=False).last_hidden_state.cpu()
            for example, hidden in zip(batch, unpack(output, batch), strict=True):
                made[next(numbers)] = replace(example, hidden=hidden.clone())
            on_progress(len(made))
    return [made[number] for number in range(len(examples))]


def _lowest_trained_layer(model: Any) -> int:
    """The number of the lowest layer with trainable weights, counted from 0 at the bottom."""
    names = (name for name, weight in model.named_parameters() if weight.requires_grad)
    return min(int(match[1]) for name in names if (match := _LAYER.search(name)))


@contextmanager
def _layers_only(decoder: Any, part: slice, norm: bool = True) -> Iterator[None]:
    """Let ``decoder`` consist of ``part`` of its layers, with or without the final norm."""
    modules = decoder._modules
    before = dict(modules)
    modules["layers"] = nn.ModuleList(list(before["layers"])[part])
    if not norm:
        modules["norm"] = nn.Identity()
    try:
        yield
    finally:
        modules.update(before)
