"""FSDP: a model of which every process holds a share, and how its adapter is put together.

A layer's weights are gathered while it computes, so every pass is one of all processes: they make
the same number of them, also where their rows differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from peft import set_peft_model_state_dict
from torch.distributed.fsdp import register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from setup.common.errors import FixableError

T = TypeVar("T")
_NAMED = ".default."  # in a parameter's name: which adapter of several, which no file says


def fsdp_arguments(model: Any) -> dict[str, Any]:
    """The arguments of transformers' Trainer that shard ``model``, layer by layer.

    Raises:
        FixableError: The model is built otherwise than of layers under that name.
    """
    inner = model.get_base_model()
    layers = getattr(getattr(inner, inner.base_model_prefix), "layers", None)
    if not layers:
        raise FixableError(
            f"finetune.sharding finds no layers in {type(inner).__name__}",
            "--set finetune.sharding=none, or another model",
        )
    config = {
        "version": 2,
        "reshard_after_forward": True,
        "transformer_layer_cls_to_wrap": sorted({type(layer).__name__ for layer in layers}),
        "state_dict_type": "FULL_STATE_DICT",
    }
    return {"fsdp": True, "fsdp_config": config}


def is_sharded(model: Any) -> bool:
    """Tell whether this process holds a share of ``model``, and not all of it."""
    return isinstance(next(model.parameters()), DTensor)


def one_pass(model: Any, compute: Callable[[], T]) -> T:
    """The result that ``compute`` makes with parts of ``model``, all processes at the same time.

    The weights that belong to no layer are there while it runs.
    """
    model.compute_parts = MethodType(lambda _: compute(), model)
    register_fsdp_forward_method(model, "compute_parts")
    made: T = model.compute_parts()
    del model.compute_parts
    return made


def same_everywhere(choice: torch.Tensor) -> torch.Tensor:
    """Return the first process's ``choice``: one that differs would leave the others waiting."""
    dist.broadcast(choice, 0)
    return choice


def adapter_weights(model: Any) -> dict[str, torch.Tensor]:
    """The trained weights on the CPU, whole, by their names; all processes ask together."""
    return {
        name: (weights.full_tensor() if isinstance(weights, DTensor) else weights).detach().cpu()
        for name, weights in model.named_parameters()
        if weights.requires_grad
    }


def load_adapter(model: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """Put the content of an adapter's file into ``model``."""
    if not is_sharded(model):
        set_peft_model_state_dict(model, dict(weights))
        return
    for name, share in model.named_parameters():
        if share.requires_grad:
            full = weights[name.replace(_NAMED, ".")].to(share.device, share.dtype)
            share.data.copy_(distribute_tensor(full, share.device_mesh, share.placements))
