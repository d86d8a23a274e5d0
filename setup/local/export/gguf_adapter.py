"""The adapter alone as a GGUF file that llama.cpp adds to its base while it runs."""

from __future__ import annotations

from pathlib import Path

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
        # llama.cpp divides by the rank, whatever the adapter's own rule is.
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, adapter.scale * adapter.rank)
        matrices = {
            f"{name}.lora_{side}": matrix
            for name, pair in placed.items()
            for side, matrix in (("a", pair.a), ("b", pair.b))
        }
        for name, matrix in matrices.items():
            writer.add_tensor_info(name, matrix.shape, matrix.dtype, matrix.nbytes)
        write_data(writer, matrices.values())
