"""The fine-tuned model as one GGUF file: the base with the adapter's update in its weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from setup.common.errors import FixableError
from setup.common.files import draft_of
from setup.weights.adapter import Adapter, Matrix
from setup.weights.gguf_file import open_gguf, write_data, write_reader_as_f16
from setup.weights.gguf_layout import architecture_of, place

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


def write_adapter_gguf(base: Path, adapter: Adapter, target: Path) -> None:
    """Write the adapter to ``target`` in float32, for use beside the GGUF file ``base``.

    Format: ``llama_adapter_lora_init_impl`` in llama.cpp's src/llama-adapter.cpp.

    Raises:
        FixableError: As ``merge_into_gguf``.
    """
    import gguf  # noqa: PLC0415 - a second of import that most commands never need

    reader = open_gguf(base)
    placed = place(adapter, reader, base)
    with draft_of(target) as draft:
        writer = gguf.GGUFWriter(draft, architecture_of(reader))
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        # llama.cpp divides by the rank of each module, whatever the adapter's own rule is.
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, adapter.scale * adapter.rank)
        matrices = {}
        for name, pair in placed.items():
            ratio = np.float32(len(pair.a) / adapter.rank)
            matrices[f"{name}.lora_a"] = pair.a
            matrices[f"{name}.lora_b"] = pair.b if ratio == 1 else pair.b * ratio
        for name, matrix in matrices.items():
            writer.add_tensor_info(name, matrix.shape, matrix.dtype, matrix.nbytes)
        write_data(writer, matrices.values())
