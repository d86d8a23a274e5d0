"""The fine-tuned model as a transformers folder, for whoever goes on without llama.cpp."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from setup.common.files import cannot_write, draft_of
from setup.weights.adapter import Adapter
from setup.weights.base import load_base


def write_merged_safetensors(
    base: Path | str,
    adapter: Adapter,
    target: Path,
    served: Path | None = None,
    context_window: int = 0,
) -> None:
    """Write the folder ``target``: merged weights in float16, tokenizer, configuration.

    ``base``, ``served`` and ``context_window`` are what ``setup.weights.base.load_base`` takes.
    The merge is computed in float32. A folder that is at ``target`` is replaced.

    Raises:
        FixableError: The base cannot be loaded, the adapter does not fit it, or ``target`` cannot
            be written. ``target`` is then as before.
    """
    import torch
    from safetensors import SafetensorError

    model, tokenizer = load_base(str(base), torch.float32, served, context_window)
    merge_into_model(model, adapter, base)
    model.half()
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise adapter.overflow(name)
    with draft_of(target) as draft:
        try:
            model.save_pretrained(draft)
        except SafetensorError as error:  # a full disk, in that library's words
            raise cannot_write(target, str(error)) from None
        tokenizer.save_pretrained(draft)


def merge_into_model(model: Any, adapter: Adapter, base: Path | str) -> None:
    """Add the adapter's update to the weights of ``model``, which was loaded from ``base``.

    Raises:
        FixableError: The adapter does not fit it.
    """
    import torch

    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for module, pair in adapter.pairs.items():
            weight = parameters.get(f"{module}.weight")
            if weight is None:
                raise adapter.misfit(base, f"{module} is not a matrix of that model")
            if weight is model.get_input_embeddings().weight and model.config.tie_word_embeddings:
                raise adapter.tied(base, module)
            if tuple(weight.shape) != pair.shape:
                shape = tuple(weight.shape)
                raise adapter.misfit(base, f"{module} is {pair.shape}, there it is {shape}")
            weight.add_(torch.from_numpy(pair.b) @ torch.from_numpy(pair.a), alpha=adapter.scale)
