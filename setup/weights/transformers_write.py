"""The fine-tuned model as a transformers folder, for whoever goes on without llama.cpp."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from setup.common.errors import FixableError
from setup.common.files import cannot_write, draft_of
from setup.weights.adapter import Adapter, Pair

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
    import torch  # noqa: PLC0415 - seconds of import that most commands never need
    from safetensors import SafetensorError  # noqa: PLC0415

    from setup.weights.base import load_base  # noqa: PLC0415

    model, tokenizer = load_base(str(base), torch.float32, served, context_window)
    _merge(model, adapter, str(base))
    model.half()
    broken = next((n for n, p in model.named_parameters() if not p.isfinite().all()), None)
    if broken:
        what = f"the adapter in {adapter.folder} drives {broken} beyond half precision"
        raise FixableError(what, "fine-tune again with a lower finetune.learning_rate")
    with draft_of(target) as draft:
        try:
            model.save_pretrained(draft)
        except SafetensorError as error:  # a full disk, in that library's words
            raise cannot_write(target, str(error)) from None
        tokenizer.save_pretrained(draft)


def _merge(model: PreTrainedModel, adapter: Adapter, base: str) -> None:
    import torch  # noqa: PLC0415

    weights = dict(model.named_parameters())
    with torch.no_grad():
        for module, pair in adapter.pairs.items():
            weight = weights.get(f"{module}.weight")
            if weight is None or tuple(weight.shape) != _shape(pair):
                misfit = "is not a matrix of that model" if weight is None else f"is {_shape(pair)}"
                raise FixableError(
                    f"the adapter in {adapter.folder} does not fit {base}: {module} {misfit}",
                    "fine-tune on that very model: python -m setup finetune --recipe NAME",
                )
            update = torch.from_numpy(pair.b) @ torch.from_numpy(pair.a)
            weight.add_(update, alpha=adapter.scale)


def _shape(pair: Pair) -> tuple[int, int]:
    return pair.b.shape[0], pair.a.shape[1]
