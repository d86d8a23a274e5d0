"""The tokenizer of a base model without its weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from setup.common.paths import models_folder
from setup.weights.base import (
    Base,
    folder_tokenizer,
    gguf_tokenizer,
    loading,
    refuse_no_template,
)
from setup.weights.fetch import build_once
from setup.weights.gguf_file import open_header


def load_tokenizer(base: Base) -> Any:
    """The tokenizer that ``base`` is trained with.

    To read it from a .gguf file takes seconds, so that it is kept beside the cached models.

    Raises:
        FixableError: It cannot be read, or has no chat template.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    source = base.source or str(base.file)
    with loading(f"the tokenizer of {source}"):
        folder = str(Path(source).expanduser())
        tokenizer = folder_tokenizer(folder) if base.source else _of_file(base)
    refuse_no_template(tokenizer, source)
    return tokenizer


def _of_file(base: Base) -> Any:
    folder = models_folder() / f"{base.file.stem}-{base.sha256[:8]}-tokenizer"

    def copy(draft: Path) -> None:
        gguf_tokenizer(open_header(base.file)).save_pretrained(draft)

    try:
        return folder_tokenizer(str(build_once(folder, copy)))
    except OSError:  # where nothing may be written
        return gguf_tokenizer(open_header(base.file))
