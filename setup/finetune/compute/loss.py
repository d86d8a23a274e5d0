"""Cross entropy on the labelled tokens alone, and nothing computed that is not needed for it.

The vocabulary is never computed for a prompt. Nothing below the lowest adapter changes during a
run, so what those layers make of a conversation is computed once and not again every epoch: with
adapters on the top third of the layers an epoch costs half.
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from transformers.modeling_outputs import BaseModelOutputWithPast

from setup.finetune.compute.collate import IGNORED, attention_window, collate, unpack
from setup.finetune.compute.sharding import is_sharded
from setup.finetune.examples.render import Example

_TOKENS_AT_ONCE = 600
_LAYER = re.compile(r"\.layers\.(\d+)\.")
_LARGEST = 1 << 30  # bytes that may be remembered
_SAME = 0.02  # of a loss: bf16 differs by some thousandths


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
    if getattr(self.config, "computed_plainly", False):
        return {"loss": _plain_loss(self, attention_mask, labels, input_ids, num_items_in_batch)}
    decoder = _decoder(self)
    mask = _for_attention(self, attention_mask)
    options = {"attention_mask": mask, "position_ids": position_ids, "use_cache": False}
    if frozen is None:
        hidden = decoder(input_ids=input_ids, **options).last_hidden_state
    else:
        with _begun(decoder, frozen, self.lowest_trained_layer):
            hidden = decoder(inputs_embeds=frozen, **options).last_hidden_state
    targets = labels[:, 1:]
    picked = targets != IGNORED
    logits = _logits(self, hidden[:, :-1][picked]).float()
    total = cross_entropy(logits, targets[picked], reduction="sum")
    return {"loss": total / (picked.sum() if num_items_in_batch is None else num_items_in_batch)}


def _plain_loss(
    model: Any,
    mask: torch.Tensor,
    labels: torch.Tensor,
    ids: torch.Tensor | None,
    tokens: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """The loss by the library's forward alone, as slow as it is."""
    whole = type(model).forward(model, input_ids=ids, attention_mask=mask, use_cache=False)
    targets = labels[:, 1:].flatten()
    logits = whole.logits[:, :-1].float().flatten(0, 1)
    total = cross_entropy(logits, targets, reduction="sum", ignore_index=IGNORED)
    return total / ((targets != IGNORED).sum() if tokens is None else tokens)


def compute_plainly_unless_same(model: Any, example: Example) -> str:
    """Give up every way of saving time where one of them gives another loss than the library does.

    They lean on how a decoder is built, and a family of tomorrow may be built otherwise. Returns
    the reason in words, empty where all agree.
    """
    inner, device = model.get_base_model(), next(model.parameters()).device
    pair = [example, example]

    def loss_of(examples: Sequence[Example]) -> float:
        made = collate(examples, attention_window(model))
        return float(inner(**{name: value.to(device) for name, value in made.items()})["loss"])

    training, reason = model.training, ""
    model.eval()
    with torch.no_grad():
        padded = {name: value.to(device) for name, value in collate(pair, window=1).items()}
        plain = _plain_loss(inner, padded["attention_mask"], padded["labels"], padded["input_ids"])
        try:
            losses = [loss_of(pair)]
            if _lowest_trained_layer(model):
                losses.append(loss_of(remember_frozen(model, pair, lambda _: None)))
            if not all(math.isclose(loss, float(plain), rel_tol=_SAME) for loss in losses):
                reason = f"loss {max(losses):.4f} in place of {float(plain):.4f}"
        except (RuntimeError, TypeError, AttributeError, IndexError, KeyError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
    inner.config.computed_plainly = bool(reason)
    model.train(training)
    return reason


def _decoder(model: Any) -> Any:
    """The part of a causal model below its output, which most families call ``model``."""
    return getattr(model, model.base_model_prefix)


def _logits(model: Any, hidden: torch.Tensor) -> torch.Tensor:
    """The output (tokens, vocabulary) for ``hidden`` (tokens, width), by the model's own forward.

    Families cap or scale what the output matrix gives; so only their own code is asked.
    """
    with _replaced(model, {model.base_model_prefix: _Ready(hidden[None])}):
        logits: torch.Tensor = type(model).forward(model, inputs_embeds=hidden[None]).logits
    return logits[0]


def _for_attention(model: Any, mask: torch.Tensor) -> torch.Tensor:
    """A packed row's mask as the plain implementation of attention wants it, which adds it."""
    if mask.ndim != 4 or model.config._attn_implementation != "eager":
        return mask
    dtype = next(model.parameters()).dtype
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)


def mean_loss(model: Any, examples: Sequence[Example]) -> float:
    """Mean negative log-likelihood of the labelled tokens, in nats, over all processes."""
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    total = torch.zeros(2, dtype=torch.float64, device="cpu" if device.type == "mps" else device)
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    ordered = sorted(examples, key=len)
    own = list(batches_of(ordered[rank::world]))
    passes = _passes(ordered, world) if is_sharded(model) else len(own)
    with torch.no_grad():  # not in inference mode, whose tensors no later step could train with
        for number in range(passes):
            counts = number < len(own)  # else it is computed because the others compute one
            batch_inputs = collate(own[number] if counts else ordered[:1], attention_window(model))
            inputs = {name: tensor.to(device) for name, tensor in batch_inputs.items()}
            loss = model(**inputs, num_items_in_batch=1)["loss"]
            counted = int((inputs["labels"][:, 1:] != IGNORED).sum())
            if counts:
                total += torch.tensor([float(loss), counted], dtype=torch.float64).to(total)
    if world > 1:
        dist.all_reduce(total)
    model.train(training)
    return float(total[0] / total[1])


def _passes(ordered: Sequence[Example], world: int) -> int:
    """The most batches that any of the processes has of ``ordered``."""
    return max(sum(1 for _ in batches_of(ordered[rank::world])) for rank in range(world))


def batches_of(examples: Sequence[Example]) -> Iterator[list[Example]]:
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
    if getattr(model.config, "computed_plainly", False):
        return False
    width = model.config.hidden_size * next(model.parameters()).element_size()
    return fits_in_memory(examples, width) and _lowest_trained_layer(model) > 0


def fits_in_memory(examples: Sequence[Example], width: int) -> bool:
    """Tell whether ``width`` bytes for each token of ``examples`` are few enough to be kept."""
    return sum(map(len, examples)) * width <= _LARGEST


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
    decoder, window = _decoder(inner), attention_window(model)
    with torch.no_grad(), _ended(decoder, lowest):
        for batch in batches_of([examples[number] for number in order]):
            inputs = {name: value.to(device) for name, value in collate(batch, window).items()}
            del inputs["labels"]
            inputs["attention_mask"] = _for_attention(inner, inputs["attention_mask"])
            output = decoder(**inputs, use_cache=False).last_hidden_state.cpu()
            for example, hidden in zip(batch, unpack(output, batch), strict=True):
                made[next(numbers)] = replace(example, hidden=hidden.clone())
            on_progress(len(made))
    return [made[number] for number in range(len(examples))]


def _lowest_trained_layer(model: Any) -> int:
    """The number of the lowest layer with trainable weights, counted from 0 at the bottom."""
    names = (name for name, weight in model.named_parameters() if weight.requires_grad)
    return min((int(match[1]) for name in names if (match := _LAYER.search(name))), default=0)


class _Ready(nn.Module):
    """Stands for a decoder that has already given ``hidden``."""

    def __init__(self, hidden: torch.Tensor) -> None:
        super().__init__()
        self._hidden = hidden

    def forward(self, *_: Any, **__: Any) -> BaseModelOutputWithPast:
        return BaseModelOutputWithPast(last_hidden_state=self._hidden)


class _Passed(nn.Module):
    """Stands for a layer that is not computed: gives ``hidden`` where it is known, else its input.

    It stays in its place, for decoders look up the kind of a layer by its number.
    """

    def __init__(self, layer: nn.Module, hidden: torch.Tensor | None = None) -> None:
        super().__init__()
        object.__setattr__(self, "_layer", layer)
        self._hidden = hidden

    def forward(self, hidden: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return hidden if self._hidden is None else self._hidden

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_layer"), name)


def _begun(decoder: Any, hidden: torch.Tensor, lowest: int) -> AbstractContextManager[None]:
    """Let ``decoder`` go on from ``hidden``, what the layers below ``lowest`` have given.

    Whatever it does to its input (Granite scales it) it does to something that is not used.
    """
    layers = [
        layer if number >= lowest else _Passed(layer, hidden)
        for number, layer in enumerate(decoder.layers)
    ]
    return _replaced(decoder, {"layers": nn.ModuleList(layers)})


def _ended(decoder: Any, lowest: int) -> AbstractContextManager[None]:
    """Let ``decoder`` give what its layers below ``lowest`` do."""
    layers = [
        layer if number < lowest else _Passed(layer) for number, layer in enumerate(decoder.layers)
    ]
    return _replaced(decoder, {"layers": nn.ModuleList(layers), "norm": nn.Identity()})


@contextmanager
def _replaced(module: nn.Module, parts: dict[str, nn.Module]) -> Iterator[None]:
    before = dict(module._modules)
    module._modules.update(parts)
    try:
        yield
    finally:
        module._modules.update(before)
