"""The base model and its tokenizer, from the very file that is served or from the hub."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setup.common.errors import FixableError
from setup.common.paths import MAKE_ROOM, models_folder, read_json
from setup.weights import gguf_config
from setup.weights.agreement import refuse_disagreement
from setup.weights.architectures import ARCHITECTURES, as_transformers, is_windowed
from setup.weights.fetch import build_once
from setup.weights.gguf_file import OTHER_BASE_FIX, Header, open_header
from setup.weights.rope import as_served

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

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


def transformers_copy(path: Path, sha256: str, writes: bool = True) -> str:
    """``path``, a .gguf file, as a folder that loads in two seconds instead of twenty.

    The copy is made once, in half precision as the file is served, beside the cached models.
    Files above 2 GiB are not copied, nor is any where nothing may be written or that is not to be
    (``writes``); then this is ``path`` itself.
    """
    folder = models_folder() / f"{path.stem}-{sha256[:8]}-transformers-{_COPY_FORMAT}"
    if path.stat().st_size > _COPIED_BELOW or not (writes or folder.exists()):
        return str(path)
    try:
        return str(build_once(folder, lambda draft: _copy(path, draft)))
    except OSError:
        return str(path)


def _copy(path: Path, draft: Path) -> None:
    import torch
    from safetensors import SafetensorError

    model, tokenizer = load_base(str(path), torch.float16)
    # Among several processes transformers lets the first one write and leaves a folder without
    # weights to any other, which may be alone on its machine or the first to come here.
    model.should_save_on_this_rank = lambda _is_main_process: True
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
        FixableError: It cannot be read, is of an architecture that nothing here knows, has no chat
            template, or is another model than the one served.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")  # the caller has a bar of its own
    path = Path(source).expanduser()
    is_gguf = path.suffix == ".gguf"
    header = open_header(path) if is_gguf else open_header(served) if served else None
    with loading(f"the base model {source}"):
        if header and is_gguf:
            model, tokenizer = _from_gguf(header, dtype, context_window)
        else:
            where = str(path) if path.is_dir() else source
            model, tokenizer = _from_folder(where, dtype, header, context_window)
    refuse_no_template(tokenizer, source)
    if header and not is_gguf:
        gguf_config.refuse_other_model(header, model, source, context_window)
        if header.architecture not in ARCHITECTURES:
            refuse_disagreement(header, model, tokenizer, linear_layers(model), context_window)
    return model, tokenizer


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Let transformers load ``what`` in silence; a failure is the user's to fix, in one line."""
    import transformers
    from huggingface_hub.errors import StrictDataclassError

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        raise FixableError(
            f"cannot load {what}: {reason}",
            "name a .gguf file, a model folder or a Hugging Face id in the recipe",
        ) from None


def refuse_no_template(tokenizer: Any, source: str) -> None:
    """Raise FixableError where nothing says how a conversation is written."""
    if not tokenizer.chat_template:
        raise FixableError(f"{source} has no chat template", "use an instruct model")


def linear_layers(model: Any) -> list[str]:
    """The last names of all linear layers of ``model`` but its output, which LoRA is put on."""
    import torch

    output = model.get_output_embeddings()
    layers = (
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not output
    )
    return list(dict.fromkeys(layers))


def _from_gguf(header: Header, dtype: torch.dtype, context_window: int) -> tuple[Any, Any]:
    """Build the model of a file that says all of it, not with transformers' own reader.

    That leaves out what it does not know, and knows fewer architectures than llama.cpp.
    """
    import torch
    import transformers

    config: Any = gguf_config.read_config(header)
    if config is None:
        raise _unread(header)
    gguf_config.refuse_unknown_keys(header)
    config.rope_parameters = as_served(config.rope_parameters, context_window)
    with torch.device("meta"):
        skeleton = transformers.AutoModelForCausalLM.from_config(config)
    gguf_config.refuse_other_tensors(header, skeleton)
    weights = {
        parameter: torch.tensor(as_transformers(header, name, header.weights(name)), dtype=dtype)
        for name, parameter in gguf_config.tensor_names(header, skeleton).items()
    }
    model = type(skeleton).from_pretrained(None, config=config, state_dict=weights, dtype=dtype)
    return model, gguf_tokenizer(header)


def gguf_tokenizer(header: Header) -> Any:
    """The tokenizer of a .gguf file, which cuts texts as llama.cpp does."""
    import transformers

    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(
        header.path.parent, gguf_file=header.path.name
    )
    _prefix_as_served(header, tokenizer)
    return tokenizer


def _prefix_as_served(header: Header, tokenizer: Any) -> None:
    """Let a SentencePiece vocabulary begin its texts with a space where llama.cpp does it.

    Transformers decides by the architecture, and does not read what the file says of it.
    """
    from tokenizers import normalizers

    fields = header.reader.fields
    kind = fields.get("tokenizer.ggml.model")
    if kind is None or kind.contents() != "llama":
        return
    prefix = fields.get("tokenizer.ggml.add_space_prefix")
    begin = [normalizers.Prepend("▁")] if prefix is None or prefix.contents() else []
    backend = tokenizer.backend_tokenizer
    backend.normalizer = normalizers.Sequence([*begin, normalizers.Replace(" ", "▁")])
    backend.pre_tokenizer = None


def _unread(header: Header) -> FixableError:
    known = ", ".join(ARCHITECTURES)
    return FixableError(
        f"{header.path} has architecture {header.architecture or 'unknown'}; trained from a .gguf "
        f"file alone are: {known}",
        OTHER_BASE_FIX,
    )


def _from_folder(
    where: str, dtype: torch.dtype, served: Header | None, context_window: int
) -> tuple[Any, Any]:
    """Load transformers' own form, without a window that llama.cpp does not apply."""
    import transformers

    config: Any = transformers.AutoConfig.from_pretrained(where)
    if served and served.architecture in ARCHITECTURES:
        if context_window and getattr(config, "rope_parameters", None):
            config.rope_parameters = as_served(config.rope_parameters, context_window)
        if not is_windowed(served.architecture):
            _see_everything(config)
    tokenizer = folder_tokenizer(where)
    load = transformers.AutoModelForCausalLM.from_pretrained
    return load(where, dtype=dtype, config=config), tokenizer


def folder_tokenizer(where: str) -> Any:
    """The tokenizer in a folder or on the hub, of the plain class where the folder names it.

    ``AutoTokenizer`` takes that of the architecture, by which a copy of a .gguf file would split
    its texts otherwise than the file says.
    """
    import transformers

    named = (read_json(Path(where) / "tokenizer_config.json") or {}).get("tokenizer_class")
    is_plain = named in ("TokenizersBackend", "PreTrainedTokenizerFast")
    kind = transformers.PreTrainedTokenizerFast if is_plain else transformers.AutoTokenizer
    return kind.from_pretrained(where)


def _see_everything(config: Any) -> None:
    if getattr(config, "sliding_window", None):
        config.sliding_window = None
    if getattr(config, "layer_types", None):
        config.layer_types = ["full_attention"] * len(config.layer_types)
