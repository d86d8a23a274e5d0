"""LoRA on the top layers of a model, with one fused step in place of peft's six."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear

from setup.common.errors import FixableError
from setup.recipe.local import Finetune
from setup.weights.base import linear_layers


def attach_lora(model: Any, settings: Finetune) -> PeftModel:
    """``model`` frozen, with trainable adapters (fp32) on the ``settings.layers`` top layers.

    Raises:
        FixableError: The model has fewer layers than that.
    """
    depth = model.config.num_hidden_layers
    if settings.layers > depth:
        raise FixableError(
            f"finetune.layers is {settings.layers}, the model has {depth}",
            f"--set finetune.layers={depth}",
        )
    top = list(range(depth - settings.layers, depth)) if settings.layers else None
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=linear_layers(model),
        layers_to_transform=top,
    )
    peft_model = get_peft_model(model, config)
    # Otherwise every checkpoint asks the hub whether the vocabulary was changed.
    peft_model.save_pretrained = partial(peft_model.save_pretrained, save_embedding_layers=False)
    if settings.dropout == 0:
        fuse_lora(peft_model)
    return peft_model


def fuse_lora(model: PeftModel) -> None:
    """Compute every adapted layer by ``_FusedLora``; parameters and checkpoints stay peft's."""
    for module in model.modules():
        if isinstance(module, Linear) and type(module.get_base_layer()) is torch.nn.Linear:
            module.forward = _fused_forward(module)


def _fused_forward(module: Linear) -> Any:
    base = module.get_base_layer()
    down, up = module.lora_A["default"], module.lora_B["default"]
    scale = module.scaling["default"]
    plain = type(module).forward

    def forward(x: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        if module.disable_adapters or module.merged:
            return plain(module, x, *arguments, **options)
        # Looked up in every pass: what is sharded is another tensor between them.
        frozen = base.weight
        adapter = (down.weight.to(frozen.dtype), up.weight.to(frozen.dtype))
        fused: Any = _FusedLora
        return fused.apply(x, frozen, base.bias, *adapter, scale)

    return forward


class _FusedLora(torch.autograd.Function):
    """``x Wᵀ + b + s (x Aᵀ) Bᵀ`` with the low-rank part added in place.

    peft's layer makes a product, a scaled copy and a sum of it, each the size of the layer's
    output; for a rank of 16 on a CPU these cost a fifth of the step. ``x`` is (…, in), ``W``
    (out, in) and ``b`` (out) or None, both frozen, ``A`` (r, in), ``B`` (out, r).
    """

    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917 - the terms of the formula
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        low = rows @ down.t()
        out = rows @ weight.t() if bias is None else torch.addmm(bias, rows, weight.t())
        out.addmm_(low, up.t(), alpha=scale)
        ctx.save_for_backward(rows, weight, down, up, low)
        ctx.scale, ctx.shape = scale, x.shape
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        rows, weight, down, up, low = ctx.saved_tensors
        grad = grad.reshape(-1, grad.shape[-1])
        grad_low = grad @ up
        grad_down = (grad_low.t() @ rows).mul_(ctx.scale)
        grad_up = (grad.t() @ low).mul_(ctx.scale)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad @ weight).addmm_(grad_low, down, alpha=ctx.scale).view(ctx.shape)
        return grad_x, None, None, grad_down, grad_up, None
