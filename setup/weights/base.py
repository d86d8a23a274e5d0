"""The base model and its tokenizer, from the very file that is served or from the hub."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setup.common.errors import FixableError
from setup.common.paths import MAKE_ROOM, models_folder
from setup.weights import gguf_config
from setup.weights.fetch import build_once
from setup.weights.gguf_file import Header, open_header
from setup.weights.rope import as_served

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# The linear layers that LoRA is put on, by the architecture's own names.
TARGET_MODULES = {
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "phi3": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
}
_COPIED_BELOW = 2 << 30  # bytes of a model file
_LONGEST_REASON = 300  # characters of an error of transformers
_COPY_FORMAT = 2  # raise it when a copy is made otherwise than before


@dataclass(frozen=True)
class Base:
    """The model that is served: its file, that file's sha256, and where to train it from.

    ``source`` is empty where that is the file itself; ``named`` is what the recipe calls it.
    """

    file: Path
    sha256: str
    source: str
    named: str = ""


def transformers_copy(path: Path, sha256: str) -> str:
    """``path``, a .gguf file, as a folder that loads in two seconds instead of twenty.

    The copy is made once, in half precision as the file is served, beside the cached models.
    Files above 2 GiB are not copied, nor is any where nothing may be written; then this is ``path``
    itself.
    """
    if path.stat().st_size > _COPIED_BELOW:
        return str(path)
    folder = models_folder() / f"{path.stem}-{sha256[:8]}-transformers-{_COPY_FORMAT}"
    try:
        return str(build_once(folder, lambda draft: _copy(path, draft)))
    except OSError:
        return str(path)


def _copy(path: Path, draft: Path) -> None:
    import torch
    from safetensors import SafetensorError

    model, tokenizer = load_base(str(path), torch.float16)
    try:
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        what = f"cannot write the model to {draft.parent}: {reason}"
        raise FixableError(what, MAKE_ROOM) from None


def load_base(
    source: str, dtype: torch.dtype, served: Path | None = None, context_window: int = 0
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model in evaluation mode on the CPU, in ``dtype``, and its tokenizer.

    ``source`` is a .gguf file, a folder of a Hugging Face model, or its id on the hub. With
    ``served`` and ``context_window`` it computes what llama.cpp does with that .gguf file for
    conversations of so many tokens.

    Raises:
        FixableError: It cannot be read, is no Llama or Phi-3, has no chat template, or is another
            model than the one served.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")  # the caller has a bar of its own
    import transformers
    from huggingface_hub.errors import StrictDataclassError

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    path = Path(source).expanduser()
    is_gguf = path.suffix == ".gguf"
    where = str(path.parent) if is_gguf else str(path) if path.is_dir() else source
    options = {"gguf_file": path.name} if is_gguf else {}
    header = open_header(path) if is_gguf else None
    try:
        config = _configuration(where, header, context_window, **options)
        tokenizer = transformers.AutoTokenizer.from_pretrained(where, **options)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            where, dtype=dtype, config=config, **options
        )
    except (OSError, ValueError, KeyError, RuntimeError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        raise FixableError(
            f"cannot load the base model {source}: {reason}",
            "name a .gguf file, a model folder or a Hugging Face id in the recipe",
        ) from None
    _forget_quantisation(model)
    _require_supported(source, model, tokenizer)
    if header:
        gguf_config.refuse_other_tensors(header, model)
    elif served:
        gguf_config.refuse_other_model(open_header(served), model, source, context_window)
    return model, tokenizer


def _configuration(where: str, header: Header | None, context_window: int, **options: str) -> Any:
    """Return the config to build the model in ``where`` from, but for what llama.cpp leaves out."""
    import transformers

    config: Any = gguf_config.read_config(header) if header else None
    if header and config:
        gguf_config.refuse_unknown_keys(header)
    else:
        config = transformers.AutoConfig.from_pretrained(where, **options)
    if context_window and getattr(config, "rope_parameters", None):
        config.rope_parameters = as_served(config.rope_parameters, context_window)
        if getattr(config, "sliding_window", None):
            config.sliding_window = None  # llama.cpp has none for these architectures
    return config


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
