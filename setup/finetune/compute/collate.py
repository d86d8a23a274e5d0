"""Examples as tensors, in the layout that computes the fewest tokens.

*Padded*: a row for each example, filled up to the longest. *Packed*: one row for all of them, in
which what they have in common at the beginning (a system message, mostly) stands once; a mask lets
every example see that prefix and itself. What a causal model computes for a prefix does not depend
on what follows, so both layouts give the same losses and gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from setup.finetune.examples.render import Example

IGNORED = -100  # what cross_entropy leaves out by default
_WORTH_IT = 0.05  # of the tokens saved; attention over the packed row costs more than that below
_LONGEST = 1024  # tokens of a packed row: attention grows with its square


def collate(examples: Sequence[Example], window: int = 0) -> dict[str, torch.Tensor]:
    """``labels``, ``attention_mask`` and ``input_ids`` of a batch, packed where that pays.

    Padded they are of shape (rows, longest); packed (1, tokens) with ``position_ids`` beside them
    and a mask of shape (1, 1, tokens, tokens). Where the examples hold what the frozen layers made
    of them, that goes in the place of their ids, as ``frozen`` of shape (…, width).
    Examples longer than ``window``, what a layer of the model sees (0 for all), are not packed.
    """
    prefix, packs = _packing(examples, window)
    return _pack(examples, prefix) if packs else _pad(examples)


def computed_tokens(examples: Sequence[Example], window: int = 0) -> int:
    """Count the tokens that a model computes for ``collate(examples, window)``."""
    prefix, packs = _packing(examples, window)
    if packs:
        return sum(map(len, examples)) - prefix * (len(examples) - 1)
    return len(examples) * max(map(len, examples))


def _packing(examples: Sequence[Example], window: int) -> tuple[int, bool]:
    """The tokens that all begin with, and whether a packed row pays."""
    # A packed row's mask knows no window: every layer would see all of its example.
    fits = not window or max(map(len, examples)) <= window
    prefix, total = shared_prefix(examples), sum(map(len, examples))
    saved = prefix * (len(examples) - 1)
    return prefix, fits and saved >= _WORTH_IT * total and total - saved <= _LONGEST


def attention_window(model: Any) -> int:
    """The number of tokens that a layer of ``model`` sees at least, 0 for all of them."""
    config = model.config
    if getattr(config, "computed_plainly", False):
        return 1
    kinds = set(getattr(config, "layer_types", None) or ["sliding_attention"])
    if not kinds <= {"full_attention", "sliding_attention"}:
        return 1  # another kind, which no mask of ours is for
    return int(getattr(config, "sliding_window", None) or 0) if kinds != {"full_attention"} else 0


def shared_prefix(examples: Sequence[Example]) -> int:
    """Count the tokens all ``examples`` begin with, up to where the first answer is predicted."""
    first = examples[0].ids
    length = min(min(example.labelled, default=0) - 1 for example in examples)
    for example in examples[1:]:
        same = (a == b for a, b in zip(first[:length], example.ids, strict=False))
        length = next((i for i, equal in enumerate(same) if not equal), length)
    return max(0, length)


def unpack(batch: torch.Tensor, examples: Sequence[Example]) -> list[torch.Tensor]:
    """The part (tokens, …) of each example in a tensor that was computed from ``collate``."""
    if len(batch) == len(examples) and len(examples) > 1:
        return [row[: len(example)] for row, example in zip(batch, examples, strict=True)]
    prefix = shared_prefix(examples) if len(examples) > 1 else 0
    row, start, parts = batch[0], prefix, []
    for example in examples:
        own = len(example) - prefix
        parts.append(torch.cat([row[:prefix], row[start : start + own]]))
        start += own
    return parts


def _pad(examples: Sequence[Example]) -> dict[str, torch.Tensor]:
    shape = (len(examples), max(map(len, examples)))
    ids, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, IGNORED)
    for row, example in enumerate(examples):
        tokens = torch.tensor(example.ids)
        ids[row, : len(example)], mask[row, : len(example)] = tokens, 1
        labels[row, example.labelled] = tokens[example.labelled]
    made = {"attention_mask": mask, "labels": labels}
    hidden = _hidden(examples)
    if hidden is None:
        return {"input_ids": ids, **made}
    frozen = hidden[0].new_zeros((*shape, hidden[0].shape[-1]))
    for row, part in enumerate(hidden):
        frozen[row, : len(part)] = part
    return {"frozen": frozen, **made}


def _pack(examples: Sequence[Example], prefix: int) -> dict[str, torch.Tensor]:
    ids, labels = list(examples[0].ids[:prefix]), [IGNORED] * prefix
    positions, owner = list(range(prefix)), [-1] * prefix
    for number, example in enumerate(examples):
        start = len(ids) - prefix  # of the example, had it its own prefix
        ids += example.ids[prefix:]
        labels += [IGNORED] * (len(example) - prefix)
        for position in example.labelled:
            labels[start + position] = example.ids[position]
        positions += range(prefix, len(example))
        owner += [number] * (len(example) - prefix)
    made = {
        "attention_mask": _mask(torch.tensor(owner))[None, None],
        "position_ids": torch.tensor([positions]),
        "labels": torch.tensor([labels]),
    }
    hidden = _hidden(examples)
    if hidden is None:
        return {"input_ids": torch.tensor([ids]), **made}
    own = [part[prefix:] for part in hidden]
    return {"frozen": torch.cat([hidden[0][:prefix], *own])[None], **made}


def _mask(owner: torch.Tensor) -> torch.Tensor:
    """Let a token (row) see others (columns): those before it, of the prefix and of its example."""
    sees = (owner[:, None] == owner[None, :]) | (owner[None, :] == -1)
    return sees & torch.ones_like(sees).tril()


def _hidden(examples: Sequence[Example]) -> list[torch.Tensor] | None:
    """Return the frozen layers' outputs for the examples; None unless all of them have theirs."""
    hidden = [example.hidden for example in examples if example.hidden is not None]
    return hidden if len(hidden) == len(examples) else None
