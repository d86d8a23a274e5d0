"""The output of the layers below the lowest adapter: computed once, and not again every epoch.

Nothing below that layer changes during a run, so its output for a conversation does not either.
With adapters on the top third of the layers an epoch over remembered outputs costs half.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from setup.finetune.compute.collate import collate, unpack
from setup.finetune.compute.layers import layers_only, lowest_trained_layer
from setup.finetune.compute.loss import batches_of
from setup.finetune.examples.mask import Example

_LARGEST = 1 << 30  # bytes that may be remembered


def worth_remembering(model: Any, examples: Sequence[Example]) -> bool:
    """Tell whether there is anything frozen to remember, and room for it."""
    width = model.config.hidden_size * next(model.parameters()).element_size()
    fits = sum(map(len, examples)) * width <= _LARGEST
    return fits and lowest_trained_layer(model) > 0


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
    lowest = lowest_trained_layer(model)
    device = next(model.parameters()).device
    numbers = iter(order)
    with torch.no_grad(), layers_only(inner.model, slice(0, lowest), norm=False):
        for batch in batches_of([examples[number] for number in order]):
            inputs = {name: value.to(device) for name, value in collate(batch).items()}
            del inputs["labels"]
            output = inner.model(**inputs, use_cache=False).last_hidden_state.cpu()
            for example, hidden in zip(batch, unpack(output, batch), strict=True):
                made[next(numbers)] = replace(example, hidden=hidden.clone())
            on_progress(len(made))
    return [made[number] for number in range(len(examples))]
