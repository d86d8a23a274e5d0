"""A LoRA adapter that another program made with peft: unsloth, axolotl, LLaMA-Factory, trl.

They write peft's two files, with differences: names of tensors that keep what the model was wrapped
in, half precision, pickles, settings without effect. What is left out of them is said; what would
change the model is refused by its name.
"""

from __future__ import annotations

import errno
import json
import pickle
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import yaml

from setup.common.errors import FixableError
from setup.common.files import fixable_read, sha256_file
from setup.common.paths import read_json
from setup.weights.adapter import CONFIG, WEIGHTS, Adapter, build_adapter
from setup.weights.gguf_file import open_header

_PICKLE = "adapter_model.bin"
_AGAIN = "copy it anew from where it was trained, or name another folder"
_LORA = re.compile(r"(.+)\.lora_(embedding_)?([AB])(?:\.(?!weight$)([^.]+))?(?:\.weight)?")
# What a model was wrapped in, and what holds the text model of one that sees as well.
_WRAPPERS = {
    *("base_model", "model", "module", "language_model", "_orig_mod"),
    *("_fsdp_wrapped_module", "_checkpoint_wrapped_module"),
}
_PLACE = re.compile(r"(?:(.*)\.)?(layers\.\d+\..+|embed_tokens|lm_head)")
# Whole weights that peft writes beside LoRA on them, or where the vocabulary grew.
_WHOLE = re.compile(r"(?:.*\.)?(embed_tokens|lm_head)(?:\.base_layer)?\.weight")
_ROUNDING = 0.2  # the most by which a matrix in four bits is from the same one in sixteen
_TASKS = (None, "CAUSAL_LM")
# By the tags of a model card, the most telling first: unsloth and axolotl train with trl.
_TOOLS = {"unsloth": "unsloth", "axolotl": "axolotl", "llama-factory": "LLaMA-Factory"}
_TOOLS |= {"trl": "trl"}


@dataclass(frozen=True)
class Foreign:
    """The adapter as peft would load it; ``tensors`` under peft's own names, in float32.

    ``whole`` are matrices that lie in the file beside it, in float32, by module;
    ``trained_on`` is what it calls its base, ``tool`` the program that made it, where it says so.
    """

    adapter: Adapter
    config: dict[str, Any]
    tensors: dict[str, Any]
    whole: dict[str, Any]
    name: str
    tool: str
    sha256: str
    trained_on: str
    notes: list[str]

    def refuse_other_embeddings(self, base: Path) -> Iterator[str]:
        """Yield a line about each whole matrix that is the base's own, and so is left out.

        Raises:
            FixableError: It is not, so the adapter is more than LoRA.
        """
        import gguf

        header = open_header(base)
        for module, matrix in self.whole.items():
            name = "output.weight" if module == "lm_head" else "token_embd.weight"
            tensor = header.tensors.get(name) or header.tensors["token_embd.weight"]
            own = gguf.dequantize(tensor.data, tensor.tensor_type)
            if matrix.shape != own.shape:
                reason = f"it holds {module} of shape {matrix.shape}, there it is {own.shape}"
                raise self.adapter.misfit(base, f"{reason}: its vocabulary is another")
            difference = np.linalg.norm(matrix - own) / np.linalg.norm(own)
            if not difference < _ROUNDING:
                reason = f"it holds a {module} of its own, {difference:.0%} from the one there"
                raise self.adapter.misfit(base, reason)
            yield f"{module}, which lies whole beside the adapter, is the base's own: left out"

    def save(self, folder: Path, base: str) -> None:
        """Write it to the folder ``folder``, as peft writes one that was trained on ``base``."""
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        try:
            save_file(self.tensors, folder / WEIGHTS, metadata={"format": "pt"})
        except SafetensorError as error:  # a full disk, in that library's words
            raise OSError(errno.ENOSPC, str(error)) from None
        config = {**self.config, "base_model_name_or_path": base}
        text = json.dumps(config, indent=2, sort_keys=True) + "\n"
        (folder / CONFIG).write_text(text, encoding="utf-8", newline="\n")


def read_foreign(folder: Path) -> Foreign:
    """Read the adapter in ``folder``.

    Raises:
        FixableError: There is none, it is damaged, or it is something else than a LoRA of linear
            layers and embeddings.
    """
    config = _read_config(folder)
    path = _weights_path(folder)
    raw = _read_tensors(path)
    tensors, whole, notes = _sort(path, raw)
    cleaned, remarks = _clean(folder, config, raw)
    try:
        adapter = build_adapter(folder, cleaned, tensors)
    except FixableError as error:
        # What it says to do about an adapter of our own is to train it anew.
        raise FixableError(error.what, _AGAIN if "delete" in error.fix else error.fix) from None
    trained_on = _portable(str(config.get("base_model_name_or_path") or ""))
    known = f" ({trained_on})" if trained_on else ""
    elsewhere = f"set model.source (and finetune.base) to the model it was trained on{known}"
    return Foreign(
        adapter=replace(adapter, elsewhere=elsewhere),
        config=cleaned,
        tensors=tensors,
        whole=whole,
        name=folder.resolve().name,
        tool=_tool(folder, config),
        sha256=sha256_file(path),
        trained_on=trained_on,
        notes=notes + remarks,
    )


def _read_config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "is not there"
        raise FixableError(f"{folder} {what}, not an adapter's folder", "--adapter FOLDER")
    path = folder / CONFIG
    if not path.is_file():
        inside = sorted(child.parent for child in folder.glob(f"*/{CONFIG}"))
        fix = f'--adapter "{inside[-1]}"' if inside else f"--adapter a folder with {CONFIG}"
        also = f", but {len(inside)} of its folders have one" if inside else ""
        raise FixableError(f"{folder} holds no {CONFIG}{also}", fix)
    config = read_json(path)
    if config is None:
        raise FixableError(f"{path} is not a JSON object", _AGAIN)
    return config


def _weights_path(folder: Path) -> Path:
    for name in (WEIGHTS, _PICKLE):
        if (folder / name).is_file():
            return folder / name
    raise FixableError(f"{folder} holds neither {WEIGHTS} nor {_PICKLE}", _AGAIN)


def _read_tensors(path: Path) -> dict[str, Any]:
    """The tensors of the file, as torch has them; nothing in a pickle is run."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        with fixable_read(path):
            if path.name == WEIGHTS:
                return dict(load_file(path))
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise FixableError(f"{path} is damaged or cut off ({error})", _AGAIN) from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise FixableError(
            f"{path} is damaged, or holds more than tensors, which is not run "
            f"({type(error).__name__})",
            f"save it as {WEIGHTS} where it was trained: save_pretrained(FOLDER)",
        ) from None
    if not isinstance(tensors, Mapping) or not all(map(torch.is_tensor, tensors.values())):
        raise FixableError(f"{path} is no table of tensors", f"save it as {WEIGHTS}")
    return dict(tensors)


def _sort(path: Path, raw: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """The LoRA matrices under peft's names, the whole matrices, and what was renamed."""
    tensors: dict[str, Any] = {}
    whole: dict[str, Any] = {}
    renamed = ""
    matches = (_LORA.fullmatch(key) for key in raw)
    if len(adapters := {match[4] or "default" for match in matches if match}) > 1:
        what = f"{path} holds several adapters: {', '.join(sorted(adapters))}"
        raise FixableError(
            what, "save the one you want alone: save_pretrained(…, selected_adapters)"
        )
    for key, tensor in raw.items():
        match = _LORA.fullmatch(key)
        if match is None:
            full = _WHOLE.fullmatch(key)
            if full is None:
                raise _not_lora(path, key)
            whole[_module(full[1])] = tensor.float().numpy()
            continue
        side = f"lora_{match[2] or ''}{match[3]}" + ("" if match[2] else ".weight")
        name = f"base_model.model.{_module(match[1])}.{side}"
        if name in tensors:
            raise FixableError(f"{path} holds {name} twice, once as {key}", _AGAIN)
        tensors[name] = tensor.float().numpy()
        if name != key:
            renamed = renamed or f"{key} and its like are read as {name}"
    return tensors, whole, [renamed] if renamed else []


def _module(name: str) -> str:
    """The module's name in the causal model alone, as it is where nothing wraps that."""
    match = _PLACE.fullmatch(name)
    if match is None or not set(filter(None, (match[1] or "").split("."))) <= _WRAPPERS:
        return name.removeprefix("base_model.model.")
    inner = ".".join(part for part in match[2].split(".") if part not in _WRAPPERS)
    return inner if inner == "lm_head" else f"model.{inner}"


def _not_lora(path: Path, key: str) -> FixableError:
    kind = "a trained bias" if key.endswith(".bias") else "no LoRA matrix"
    for part, meaning in {
        "lora_magnitude_vector": "a magnitude of DoRA",
        "modules_to_save": "a whole trained module",
        "token_adapter": "trained tokens",
        "prompt_embeddings": "a trained prompt",
    }.items():
        kind = meaning if part in key else kind
    return FixableError(
        f"{path} holds {key}, {kind}, which cannot be served",
        "train it as plain LoRA, or merge it with peft and serve the merged model",
    )


def _clean(
    folder: Path, config: dict[str, Any], raw: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """``config`` without what has no effect, and a line about each that somebody may miss."""
    task = config.get("task_type")
    if task not in _TASKS:
        what = f"{folder / CONFIG} is of a model for {task}, not for chat (CAUSAL_LM)"
        raise FixableError(what, "train it on a causal language model")
    cleaned, notes = dict(config), list[str]()
    if config.get("bias") not in (None, "none"):
        # Biases would be tensors of their own, which are refused.
        notes.append(f"bias={config['bias']} has no effect: the file holds no biases")
    cleaned["bias"] = "none"
    if cleaned.pop("fan_in_fan_out", False):
        notes.append("fan_in_fan_out has no effect: the model's layers are linear ones")
    if config.get("init_lora_weights") != "loftq":
        cleaned.pop("loftq_config", None)
    if any(key.endswith(".bias") for key in raw):
        cleaned["bias"] = config.get("bias")
    return cleaned, notes


def _tool(folder: Path, config: dict[str, Any]) -> str:
    """The program that made it, by the tags of its model card or its configuration."""
    tags = set(_tags(folder / "README.md"))
    mapping = config.get("auto_mapping")
    if isinstance(mapping, dict) and mapping.get("unsloth_fixed"):
        tags.add("unsloth")
    return next((tool for tag, tool in _TOOLS.items() if tag in tags), "")


def _tags(card: Path) -> Iterator[str]:
    try:
        text = card.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    if "axolotl version:" in text:
        yield "axolotl"
    _, _, rest = text.partition("---\n")
    try:
        front = yaml.safe_load(rest.partition("\n---")[0])
    except yaml.YAMLError:
        return
    if isinstance(front, dict):
        yield str(front.get("library_name"))
        yield from map(str, front.get("tags") or [])


def _portable(name: str) -> str:
    """The name of a base; of a path of some machine, its last part."""
    is_path = name.startswith(("/", "~", ".")) or "\\" in name
    return PureWindowsPath(name).name if is_path else name
