"""A LoRA adapter as peft saves it, read without torch or peft."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setup.adapter_files import CONFIG, WEIGHTS
from setup.errors import FixableError
from setup.paths import read_json

Matrix = NDArray[np.float32]

_PREFIX = "base_model.model."
_ENDINGS = {".lora_A.weight": 0, ".lora_B.weight": 1}
# With these the update is no longer scale * B A of every module alike.
_UNSUPPORTED = (
    "alora_invocation_tokens",
    "alpha_pattern",
    "fan_in_fan_out",
    "layer_replication",
    "rank_pattern",
    "use_bdlora",
    "use_dora",
    "use_qalora",
)


@dataclass(frozen=True)
class Pair:
    """The update of one matrix of shape (out, in): ``a`` is (r, in) and ``b`` is (out, r)."""

    a: Matrix
    b: Matrix


@dataclass(frozen=True)
class Adapter:
    """What fine-tuning changed: each module's weight grows by ``scale`` * ``b`` @ ``a``.

    ``pairs`` has transformers' module names as keys, like ``model.layers.0.self_attn.q_proj``.
    """

    folder: Path
    rank: int
    scale: float
    pairs: dict[str, Pair]


def read_adapter(folder: Path) -> Adapter:
    """The adapter that peft's ``save_pretrained`` left in ``folder``, its weights as float32.

    Format: https://huggingface.co/docs/peft/developer_guides/checkpoint

    Raises:
        FixableError: A file is missing or corrupt, a weight is not finite, or it is another kind
            of adapter than plain or rank-stabilised LoRA.
    """
    rank, scale = _read_config(folder)
    sides: dict[str, dict[int, Matrix]] = {}
    for key, weights in _read_weights(folder / WEIGHTS).items():
        module, side = _split(folder, key)
        sides.setdefault(module, {})[side] = _checked(folder, key, weights)
    pairs = {module: _pair(folder, module, rank, both) for module, both in sides.items()}
    if not pairs:
        raise _unusable(folder, f"{WEIGHTS} holds no weights")
    return Adapter(folder, rank, scale, pairs)


def _read_config(folder: Path) -> tuple[int, float]:
    path = folder / CONFIG
    if not path.is_file():
        raise _unusable(folder, f"there is no {CONFIG}")
    config = read_json(path)
    if config is None:
        raise _unusable(folder, f"{CONFIG} is no JSON object")
    kind = config.get("peft_type", "LORA")
    odd = [name for name in _UNSUPPORTED if config.get(name)]
    if kind != "LORA" or odd:
        reason = f"{kind} adapters" if kind != "LORA" else f"LoRA with {', '.join(odd)}"
        raise FixableError(f"{path} asks for {reason}, which cannot be exported", "use plain LoRA")
    rank = _positive(folder, config, "r")
    alpha = _positive(folder, config, "lora_alpha")
    if rank != int(rank):
        raise _unusable(folder, f"r in {CONFIG} is no whole number")
    # rsLoRA: https://arxiv.org/abs/2312.03732
    return int(rank), alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _positive(folder: Path, config: dict[str, Any], name: str) -> float:
    value = config.get(name)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf:
        return float(value)
    raise _unusable(folder, f"{CONFIG} has no positive number as {name}")


def _read_weights(path: Path) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError  # noqa: PLC0415 - only export needs it
    from safetensors.numpy import load_file  # noqa: PLC0415

    try:
        return dict(load_file(path))
    except FileNotFoundError:
        raise _unusable(path.parent, f"there is no {WEIGHTS}") from None
    except (OSError, SafetensorError) as error:
        raise _unusable(path.parent, f"{WEIGHTS} is damaged or cut off ({error})") from None
    except TypeError as error:  # bfloat16, for which numpy has no type
        raise FixableError(f"cannot read {path}: {error}", "save the adapter in float32") from None


def _split(folder: Path, key: str) -> tuple[str, int]:
    for ending, side in _ENDINGS.items():
        if key.startswith(_PREFIX) and key.endswith(ending):
            return key.removeprefix(_PREFIX).removesuffix(ending), side
    raise _unusable(folder, f"{WEIGHTS} holds {key}, which is no LoRA matrix of a linear layer")


def _checked(folder: Path, key: str, weights: NDArray[Any]) -> Matrix:
    if weights.ndim != 2:
        raise _unusable(folder, f"{key} has shape {weights.shape}, not two dimensions")
    as_float = weights.astype(np.float32)
    if not np.isfinite(as_float).all():
        raise _unusable(folder, f"{key} has weights that are not finite: the training diverged")
    return as_float


def _pair(folder: Path, module: str, rank: int, sides: dict[int, Matrix]) -> Pair:
    if len(sides) != 2:
        raise _unusable(folder, f"{module} has only one of lora_A and lora_B")
    pair = Pair(sides[0], sides[1])
    if pair.a.shape[0] != rank or pair.b.shape[1] != rank:
        shapes = f"A {pair.a.shape} and B {pair.b.shape}"
        raise _unusable(folder, f"{module} has {shapes}, though {CONFIG} says r is {rank}")
    return pair


def _unusable(folder: Path, reason: str) -> FixableError:
    return FixableError(
        f"the adapter in {folder} cannot be used: {reason}",
        f'delete "{folder}" and fine-tune again: python -m setup finetune',
    )
