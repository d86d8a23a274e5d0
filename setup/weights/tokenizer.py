"""The tokenizer of a base model without its weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from setup.common.errors import FixableError
from setup.common.paths import models_folder
from setup.weights.base import Base, folder_tokenizer, gguf_tokenizer
from setup.weights.fetch import build_once
from setup.weights.gguf_file import open_header

_LONGEST_REASON = 300  # characters of an error of transformers


def load_tokenizer(base: Base) -> Any:
    """The tokenizer that ``base`` is trained with.

    To read it from a .gguf file takes seconds, so that it is kept beside the cached models.

    Raises:
        FixableError: It cannot be read, or has no chat template.
    """
    if base.source:
        return _checked(base.source, lambda: folder_tokenizer(str(Path(base.source).expanduser())))
    return _checked(str(base.file), lambda: _of_file(base))


def _of_file(base: Base) -> Any:
    folder = models_folder() / f"{base.file.stem}-{base.sha256[:8]}-tokenizer"

    def copy(draft: Path) -> None:
        gguf_tokenizer(open_header(base.file)).save_pretrained(draft)

    try:
        return folder_tokenizer(str(build_once(folder, copy)))
    except OSError:  # where nothing may be written
        return gguf_tokenizer(open_header(base.file))


def _checked(source: str, load: Callable[[], Any]) -> Any:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        tokenizer = load()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        raise FixableError(
            f"cannot load the tokenizer of {source}: {reason}",
            "name a .gguf file, a model folder or a Hugging Face id in the recipe",
        ) from None
    if not tokenizer.chat_template:
        raise FixableError(f"{source} has no chat template", "use an instruct model")
    return tokenizer
