"""Cross entropy on the labelled tokens alone: the vocabulary is never computed for a prompt."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy

from setup.finetune.compute.collate import IGNORED, collate
from setup.finetune.compute.layers import layers_only, lowest_trained_layer
from setup.finetune.examples.mask import Example

_TOKENS_AT_ONCE = 600


def use_answer_loss(model: Any) -> None:
    """Make the causal model inside ``model`` (a PeftModel) return ``{"loss": …}`` alone.

    The output layer of a small model is a fifth of its arithmetic; here it sees the labelled
    positions only. The loss is a mean over them, or, where the Trainer says over how many tokens
    a whole step goes, the sum divided by that.
    """
    inner = model.get_base_model()
    inner.lowest_trained_layer = lowest_trained_layer(model)
    inner.forward = types.MethodType(_answer_loss, inner)


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
        with layers_only(self.model, slice(self.lowest_trained_layer, None)):
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
        for batch in batches_of(sorted(examples, key=len)[rank::world]):
            inputs = {name: tensor.to(device) for name, tensor in collate(batch).items()}
            loss = model(**inputs, num_items_in_batch=1)["loss"]
            counted = int((inputs["labels"][:, 1:] != IGNORED).sum())
            total += torch.tensor([float(loss), counted], dtype=torch.float64).to(total)
    if world > 1:
        dist.all_reduce(total)
    model.train(training)
    return float(total[0] / total[1])


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
