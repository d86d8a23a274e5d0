"""The adapter alone as a GGUF file that llama.cpp adds to its base while it runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from setup.local.export.adapter import Adapter
from setup.local.export.draft import draft_of
from setup.local.export.gguf_layout import architecture_of, place
from setup.local.gguf_file import open_gguf, write_data


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
