"""The fine-tuned model as one GGUF file: the base with the adapter's update in its weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from setup.errors import FixableError
from setup.local.export.adapter import Adapter, Matrix
from setup.local.export.draft import draft_of
from setup.local.export.gguf_layout import place
from setup.local.gguf_file import open_gguf, write_reader_as_f16

_F16_MAX = float(np.finfo(np.float16).max)


def merge_into_gguf(
    base: Path, adapter: Adapter, target: Path, on_progress: Callable[[int, int], None]
) -> None:
    """Write ``base`` with the adapter merged to ``target``: matrices F16, vectors F32.

    Metadata and tokenizer are the base's; a quantised base is dequantised, so merge into the file
    the adapter was trained on. Memory stays at the largest matrix. ``on_progress`` receives the
    tensors done and the tensors in all.

    Raises:
        FixableError: The base is damaged or of another architecture, the adapter does not fit it,
            or ``target`` cannot be written. ``target`` is then as before.
    """
    reader = open_gguf(base)
    placed = place(adapter, reader, base)

    def graft(name: str, weights: Matrix) -> Matrix:
        pair = placed.get(name)
        if pair is None:
            return weights
        merged: Matrix = weights + np.float32(adapter.scale) * (pair.b @ pair.a)
        if not np.abs(merged).max() <= _F16_MAX:
            what = f"the adapter in {adapter.folder} drives {name} beyond half precision"
            raise FixableError(what, "fine-tune again with a lower finetune.learning_rate")
        return merged

    with draft_of(target) as draft:
        write_reader_as_f16(reader, draft, on_progress, graft)
