"""The tokenizer of a base model without its weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from setup.common.errors import FixableError
from setup.common.paths import models_folder
from setup.weights.base import Base
from setup.weights.fetch import build_once

_LONGEST_REASON = 300  # characters of an error of transformers


def load_tokenizer(base: Base) -> Any:
    """The tokenizer that ``base`` is trained with, as transformers makes it of the model file.

    To read it from a .gguf file takes seconds, so that it is kept beside the cached models.

    Raises:
        FixableError: It cannot be read, or has no chat template.
    """
    if base.source:
        return _load(str(Path(base.source).expanduser()), base.source)
    folder = models_folder() / f"{base.file.stem}-{base.sha256[:8]}-tokenizer"

    def copy(draft: Path) -> None:
        made = _load(str(base.file.parent), str(base.file), gguf_file=base.file.name)
        made.save_pretrained(draft)

    try:
        return _load(str(build_once(folder, copy)), str(base.file))
    except OSError:  # where nothing may be written
        return _load(str(base.file.parent), str(base.file), gguf_file=base.file.name)


def _load(where: str, source: str, **options: str) -> Any:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(where, **options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        raise FixableError(
            f"cannot load the tokenizer of {source}: {reason}",
            "name a .gguf file, a model folder or a Hugging Face id in the recipe",
        ) from None
    if not tokenizer.chat_template:
        raise FixableError(f"{source} has no chat template", "use an instruct model")
    return tokenizer
