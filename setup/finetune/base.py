"""The base model and its tokenizer, from the very file that is served or from the hub."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from setup.errors import FixableError
from setup.paths import MAKE_ROOM, models_folder

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# What LoRA is put on, by the architecture's own names for its linear layers.
TARGET_MODULES = {
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "phi3": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
}


_COPIED_BELOW = 2 << 30  # bytes of a model file


def transformers_copy(path: Path, sha256: str) -> str:
    """``path``, a .gguf file, as a folder that loads in two seconds instead of twenty.

    The copy is made once, in half precision as the file is served, beside the cached models.
    Files above 2 GiB are not copied; then this is ``path`` itself.
    """
    if path.stat().st_size > _COPIED_BELOW:
        return str(path)
    folder = models_folder() / f"{path.stem}-{sha256[:8]}-transformers"
    if folder.is_dir():
        return str(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                _copy(path, folder)
    except OSError as error:
        raise FixableError(
            f"cannot write the model to {folder.parent}: {error.strerror or error}",
            "set FINETUNE_PHI_MODELS to a folder of your own",
        ) from None
    return str(folder)


def _copy(path: Path, folder: Path) -> None:
    import torch  # noqa: PLC0415
    from safetensors import SafetensorError  # noqa: PLC0415

    model, tokenizer = load_base(str(path), torch.float16)
    draft = folder.with_name(f"{folder.name}.partial")
    try:
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        draft.rename(folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FixableError(
            f"cannot write the model to {folder.parent}: {reason}",
            MAKE_ROOM,
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def load_base(source: str, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model in evaluation mode on the CPU, in ``dtype``, and its tokenizer.

    ``source`` is a .gguf file, a folder of a Hugging Face model, or its id on the hub.

    Raises:
        FixableError: It cannot be read, is no Llama or Phi-3, or has no chat template.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")  # the caller has a bar of its own
    import transformers  # noqa: PLC0415 - seconds of import that most commands never need

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    where, options = _location(source)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(where, **options)
        model = transformers.AutoModelForCausalLM.from_pretrained(where, dtype=dtype, **options)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FixableError(
            f"cannot load the base model {source}: {reason}",
            "name a .gguf file, a model folder or a Hugging Face id in the recipe",
        ) from None
    _forget_quantisation(model)
    _require_supported(source, model, tokenizer)
    return model, tokenizer


def _location(source: str) -> tuple[str, dict[str, Any]]:
    path = Path(source).expanduser()
    if path.suffix == ".gguf":
        return str(path.parent), {"gguf_file": path.name}
    return (str(path) if path.is_dir() else source), {}


def _forget_quantisation(model: Any) -> None:
    """Transformers calls a model from GGUF quantised, though its weights are not any more."""
    if getattr(model, "hf_quantizer", None) is not None:
        model.hf_quantizer = None
        model.is_quantized = False
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config


def _require_supported(source: str, model: Any, tokenizer: Any) -> None:
    architecture = model.config.model_type
    if architecture not in TARGET_MODULES:
        known = ", ".join(TARGET_MODULES)
        raise FixableError(f"{source} is a {architecture} model, not one of: {known}", "name one")
    if not tokenizer.chat_template:
        raise FixableError(f"{source} has no chat template", "use an instruct model")
