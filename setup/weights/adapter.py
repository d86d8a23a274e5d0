"""A LoRA adapter as peft saves it, read without torch or peft."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setup.common.errors import FixableError
from setup.common.paths import read_json

Matrix = NDArray[np.float32]

_PREFIX = "base_model.model."
_ENDINGS = {".lora_A.weight": 0, ".lora_B.weight": 1}
# Settings of peft that say where the matrices are, how they were trained, or are read here. Any
# other that is set makes the update something else than scale * B A.
_PLAIN = {
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_rslora",
}
# Beginnings of the adapter that leave the base as it is; the others take it apart.
_PLAIN_BEGINNINGS = (True, False, None, "gaussian", "orthogonal", "eva")
_CONVERTIBLE = ("pissa", "corda", "olora", "lora_ga")
_PLAIN_LORA = "train it as plain LoRA, or merge it with peft and serve the merged model"


@dataclass(frozen=True)
class Pair:
    """The update of one matrix of shape (out, in): ``a`` is (r, in) and ``b`` is (out, r)."""

    a: Matrix
    b: Matrix


@dataclass(frozen=True)
class Adapter:
    """The result of fine-tuning: each module's weight grows by ``scale`` * ``b`` @ ``a``.

    ``scale`` and ``rank`` are those of most modules; where a module has another scale, its ``b``
    makes up for it. ``pairs`` has transformers' module names as keys, like
    ``model.layers.0.self_attn.q_proj``.
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
    config = _read_config(folder)
    rank, scale = _rank_and_scale(folder, config, "")
    sides: dict[str, dict[int, Matrix]] = {}
    for key, weights in _read_weights(folder / WEIGHTS).items():
        module, side = _split(folder, key)
        sides.setdefault(module, {})[side] = _checked(folder, key, weights)
    pairs = {}
    for module, both in sides.items():
        own_rank, own_scale = _rank_and_scale(folder, config, module)
        pair = _pair(folder, module, own_rank, both)
        ratio = np.float32(own_scale / scale)
        pairs[module] = pair if ratio == 1 else Pair(pair.a, pair.b * ratio)
    if not pairs:
        raise _unusable(folder, f"{WEIGHTS} holds no weights")
    return Adapter(folder, rank, scale, pairs)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise _unusable(folder, f"there is no {CONFIG}")
    config = read_json(path)
    if config is None:
        raise _unusable(folder, f"{CONFIG} is not a JSON object")
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        raise _not_plain(path, f"{kind} adapters", _PLAIN_LORA)
    begun = config.get("init_lora_weights")
    if begun not in _PLAIN_BEGINNINGS:
        fix = _PLAIN_LORA
        if str(begun).lower().startswith(_CONVERTIBLE):
            fix = (
                "convert it where it was trained, with peft's "
                "save_pretrained(FOLDER, path_initial_model_for_weight_conversion=…)"
            )
        raise _not_plain(path, f"LoRA begun as {begun}, which changes the base", fix)
    odd = [name for name, value in config.items() if name not in _PLAIN and _is_set(name, value)]
    if odd:
        raise _not_plain(path, f"LoRA with {', '.join(sorted(odd))}", _PLAIN_LORA)
    return config


def _is_set(name: str, value: Any) -> bool:
    return bool(value) and not (name == "bias" and value == "none")


def _not_plain(path: Path, reason: str, fix: str) -> FixableError:
    return FixableError(f"{path} asks for {reason}, which cannot be exported", fix)


def _rank_and_scale(folder: Path, config: dict[str, Any], module: str) -> tuple[int, float]:
    """The rank and scale of ``module``, those of the adapter where it has none of its own."""
    rank = _setting(folder, config, module, "r", "rank_pattern")
    alpha = _setting(folder, config, module, "lora_alpha", "alpha_pattern")
    if rank != int(rank):
        raise _unusable(folder, f"r in {CONFIG} is not a whole number")
    # rsLoRA: https://arxiv.org/abs/2312.03732
    return int(rank), alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _setting(folder: Path, config: dict[str, Any], module: str, name: str, patterns: str) -> float:
    """Of the keys of ``patterns``, which end a module's name, the first that fits counts."""
    own = config.get(patterns) or {}
    problem = _unusable(folder, f"{patterns} in {CONFIG} is not a table of patterns")
    if not isinstance(own, dict):
        raise problem
    for pattern in own if module else ():
        try:
            fits = re.match(rf"(.*\.)?({pattern})$", module)
        except re.error:
            raise problem from None
        if fits:
            return _positive(folder, own, pattern)
    return _positive(folder, config, name)


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
    what = f"{folder / WEIGHTS} holds {key}, which is not a LoRA matrix of a linear layer"
    raise FixableError(what, _PLAIN_LORA)


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
        f'delete "{folder}" and fine-tune again: python -m setup finetune --recipe NAME',
    )


CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
