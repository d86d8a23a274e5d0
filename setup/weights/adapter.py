"""A LoRA adapter as peft saves it, read without torch or peft."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setup.common.errors import FixableError
from setup.common.paths import read_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
Matrix = NDArray[np.float32]

_KEY = re.compile(r"base_model\.model\.(.*)\.lora_(?:([AB])\.weight|embedding_([AB]))")
# Settings of peft that say where the matrices are, how they were trained, or are read here. Any
# other that is set makes the update something else than scale * B A.
_PLAIN = {
    *("lora_alpha", "r", "alpha_pattern", "rank_pattern", "use_rslora", "qalora_group_size"),
    *("target_modules", "exclude_modules", "layers_pattern", "layers_to_transform"),
    *("base_model_name_or_path", "revision", "auto_mapping", "task_type", "inference_mode"),
    *("peft_type", "peft_version", "init_lora_weights", "lora_dropout", "ensure_weight_tying"),
    *("eva_config", "megatron_core", "runtime_config"),
}
# Beginnings of the adapter that leave the base as it is; the others take it apart.
_PLAIN_BEGINNINGS = (True, False, None, "gaussian", "orthogonal", "eva")
_CONVERTIBLE = ("pissa", "corda", "olora", "lora_ga")
_CONVERT = (
    "convert it where it was trained, with peft's "
    "save_pretrained(FOLDER, path_initial_model_for_weight_conversion=…)"
)
_PLAIN_LORA = "train it as plain LoRA, or merge it with peft and serve the merged model"


@dataclass(frozen=True)
class Pair:
    """The update of one matrix of shape (out, in): ``a`` is (r, in) and ``b`` is (out, r)."""

    a: Matrix
    b: Matrix

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the matrix that ``b`` @ ``a`` is added to."""
        return self.b.shape[0], self.a.shape[1]


@dataclass(frozen=True)
class Adapter:
    """The result of fine-tuning: each module's weight grows by ``scale`` * ``b`` @ ``a``.

    ``scale`` and ``rank`` are those of most modules; where a module has another scale, its ``b``
    makes up for it. ``pairs`` has transformers' module names as keys, like
    ``model.layers.0.self_attn.q_proj``. ``elsewhere`` is what to do where it does not fit a model.
    """

    folder: Path
    rank: int
    scale: float
    pairs: dict[str, Pair]
    elsewhere: str = "fine-tune on that very model: python -m setup finetune --recipe NAME"

    def misfit(self, base: Path | str, reason: str) -> FixableError:
        """Return the refusal of a base that the adapter was not trained on."""
        what = f"the adapter in {self.folder} does not fit {base}: {reason}"
        return FixableError(what, self.elsewhere)

    def tied(self, base: Path | str, module: str) -> FixableError:
        """Return the refusal of an embedding that is not the output's as well."""
        return self.misfit(base, f"it changes {module} alone, which is the output matrix there too")

    def overflow(self, name: str) -> FixableError:
        """Return the refusal of a merged tensor that half precision cannot hold."""
        what = f"the adapter in {self.folder} drives {name} beyond half precision"
        return FixableError(what, "fine-tune again with a lower finetune.learning_rate")


def read_adapter(folder: Path) -> Adapter:
    """The adapter that peft's ``save_pretrained`` left in ``folder``, its weights as float32.

    Format: https://huggingface.co/docs/peft/developer_guides/checkpoint

    Raises:
        FixableError: A file is missing or corrupt, a weight is not finite, or it is another kind
            of adapter than plain or rank-stabilised LoRA.
    """
    return build_adapter(folder, _read_config(folder), _read_weights(folder / WEIGHTS))


def build_adapter(
    folder: Path, config: dict[str, Any], tensors: Mapping[str, NDArray[Any]]
) -> Adapter:
    """The adapter of ``config`` and ``tensors``, under peft's own names, which ``folder`` holds.

    Raises:
        FixableError: As ``read_adapter`` does.
    """
    _refuse_other_kinds(folder / CONFIG, config)
    rank, scale = _rank_and_scale(folder, config)
    modules: dict[str, dict[str, Matrix]] = defaultdict(dict)
    for key, weights in tensors.items():
        match = _KEY.fullmatch(key)
        if not match:
            what = f"{folder / WEIGHTS} holds {key}, which is not a LoRA matrix of a linear layer"
            raise FixableError(what, _PLAIN_LORA)
        if weights.ndim != 2:
            raise _unusable(folder, f"{key} has shape {weights.shape}, not two dimensions")
        matrix = weights.astype(np.float32)
        if not np.isfinite(matrix).all():
            problem = "has weights that are not finite: the training diverged"
            raise _unusable(folder, f"{key} {problem}")
        if match[2]:
            modules[match[1]][match[2]] = matrix
        else:  # peft's embedding grows by (B A)ᵀ = Aᵀ Bᵀ
            modules[match[1]]["A" if match[3] == "B" else "B"] = np.ascontiguousarray(matrix.T)
    if not modules:
        raise _unusable(folder, f"{WEIGHTS} holds no weights")
    pairs = {
        module: _pair(folder, config, scale, module, sides) for module, sides in modules.items()
    }
    return Adapter(folder, rank, scale, pairs)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise _unusable(folder, f"there is no {CONFIG}")
    config = read_json(path)
    if config is None:
        raise _unusable(folder, f"{CONFIG} is not a JSON object")
    return config


def _refuse_other_kinds(path: Path, config: dict[str, Any]) -> None:
    """Raise FixableError, with the setting, for what is something else than scale * B A."""
    kind, begun = config.get("peft_type", "LORA"), config.get("init_lora_weights")
    odd = sorted(name for name in config.keys() - _PLAIN if config[name])
    if config.get("bias") == "none":
        odd.remove("bias")
    fix = _PLAIN_LORA
    if kind != "LORA":
        reason = f"{kind} adapters"
    elif begun not in _PLAIN_BEGINNINGS:
        reason = f"LoRA begun as {begun}, which changes the base"
        fix = _CONVERT if str(begun).lower().startswith(_CONVERTIBLE) else fix
    elif odd:
        reason = f"LoRA with {', '.join(_named(name, config[name]) for name in odd)}"
    else:
        return
    raise FixableError(f"{path} asks for {reason}, which cannot be exported", fix)


def _named(setting: str, value: Any) -> str:
    """The setting, with the modules it names."""
    modules = ", ".join(map(str, value)) if isinstance(value, list) else ""
    return f"{setting} ({modules})" if modules else setting


def _rank_and_scale(folder: Path, config: dict[str, Any], module: str = "") -> tuple[int, float]:
    """The rank and scale of ``module``, those of the adapter where it has none of its own."""
    rank = _setting(folder, config, module, "r", "rank_pattern")
    alpha = _setting(folder, config, module, "lora_alpha", "alpha_pattern")
    if rank != int(rank):
        raise _unusable(folder, f"r in {CONFIG} is not a whole number")
    # rsLoRA: https://arxiv.org/abs/2312.03732
    return int(rank), alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _setting(folder: Path, config: dict[str, Any], module: str, name: str, patterns: str) -> float:
    """Of the keys of ``patterns``, which end a module's name, the first that fits counts."""
    try:
        own = (config.get(patterns) or {}).items()
        fitting = (item for item in own if module and re.match(rf"(.*\.)?({item[0]})$", module))
        name, value = next(fitting, (name, config.get(name)))
    except (AttributeError, re.error):
        what = f"{patterns} in {CONFIG} is not a table of patterns"
        raise _unusable(folder, what) from None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf:
        return float(value)
    raise _unusable(folder, f"{CONFIG} has no positive number as {name}")


def _read_weights(path: Path) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except FileNotFoundError:
        raise _unusable(path.parent, f"there is no {WEIGHTS}") from None
    except (OSError, SafetensorError) as error:
        raise _unusable(path.parent, f"{WEIGHTS} is damaged or cut off ({error})") from None
    except TypeError as error:  # bfloat16, for which numpy has no type
        raise FixableError(f"cannot read {path}: {error}", "save the adapter in float32") from None


def _pair(
    folder: Path, config: dict[str, Any], scale: float, module: str, sides: dict[str, Matrix]
) -> Pair:
    if len(sides) != 2:
        raise _unusable(folder, f"{module} has only one of lora_A and lora_B")
    a, b = sides["A"], sides["B"]
    rank, own_scale = _rank_and_scale(folder, config, module)
    if a.shape[0] != rank or b.shape[1] != rank:
        shapes = f"A {a.shape} and B {b.shape}"
        raise _unusable(folder, f"{module} has {shapes}, though {CONFIG} says r is {rank}")
    ratio = np.float32(own_scale / scale)
    return Pair(a, b if ratio == 1 else b * ratio)


def _unusable(folder: Path, reason: str) -> FixableError:
    return FixableError(
        f"the adapter in {folder} cannot be used: {reason}",
        f'delete "{folder}" and fine-tune again: python -m setup finetune --recipe NAME',
    )
