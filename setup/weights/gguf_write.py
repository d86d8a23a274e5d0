"""The fine-tuned model in GGUF: the base with the adapter's update in its weights, or beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from setup.common.files import draft_of
from setup.weights import gguf_file
from setup.weights.adapter import Adapter, Matrix, Pair
from setup.weights.architectures import heads_of_rows, pair_rows

_F16_MAX = float(np.finfo(np.float16).max)
_EMBEDDING, _OUTPUT = "token_embd.weight", "output.weight"


def merge_into_gguf(
    base: Path, adapter: Adapter, target: Path, on_progress: Callable[[int, int], None]
) -> None:
    """Write ``base`` with the adapter merged to ``target``: matrices F16, vectors F32.

    Metadata and tokenizer are the base's; a quantised base is dequantised, so merge into the file
    the adapter was trained on. ``on_progress`` receives the tensors done and the tensors in all.

    Raises:
        FixableError: The base is damaged or of another architecture, the adapter does not fit it,
            or ``target`` cannot be written. ``target`` is then as before.
    """
    header = gguf_file.open_header(base)
    placed = _place(adapter, header)

    def graft(name: str, weights: Matrix) -> Matrix:
        pair = placed.get(name)
        if pair is None:
            return weights
        merged: Matrix = weights + np.float32(adapter.scale) * (pair.b @ pair.a)
        if not np.abs(merged).max() <= _F16_MAX:
            raise adapter.overflow(name)
        return merged

    with draft_of(target) as draft:
        gguf_file.write_f16(header, draft, on_progress, graft)


def write_adapter_gguf(base: Path, adapter: Adapter, target: Path) -> None:
    """Write the adapter to ``target`` in float32, for use beside the GGUF file ``base``.

    Format: ``llama_adapter_lora_init_impl`` in llama.cpp's src/llama-adapter.cpp. Raises
    FixableError as ``merge_into_gguf`` does.
    """
    import gguf

    header = gguf_file.open_header(base)
    placed = _place(adapter, header)
    with draft_of(target) as draft:
        writer = gguf.GGUFWriter(draft, header.architecture)
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        # llama.cpp divides by the rank of each module, whatever the adapter's own rule is.
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, adapter.scale * adapter.rank)
        matrices = {}
        for name, pair in placed.items():
            ratio = np.float32(len(pair.a) / adapter.rank)
            a, b = pair.a, pair.b if ratio == 1 else pair.b * ratio
            # Of an embedding llama.cpp looks up rows of the first and multiplies by the second.
            a, b = (b, np.ascontiguousarray(a.T)) if name == _EMBEDDING else (a, b)
            matrices[f"{name}.lora_a"], matrices[f"{name}.lora_b"] = a, b
        for name, matrix in matrices.items():
            writer.add_tensor_info(name, matrix.shape, matrix.dtype, matrix.nbytes)
        gguf_file.write_data(writer, matrices.values())


def _place(adapter: Adapter, base: gguf_file.Header) -> dict[str, Pair]:
    """The adapter's pairs under the names of the base's tensors, rows as the base has them."""
    names = base.name_map(base.count("block_count"))
    placed = {}
    for module, pair in adapter.pairs.items():
        name = f"{names.get_name(module)}.weight"
        if name not in base.tensors:
            raise adapter.misfit(base.path, f"{module} is not a matrix of that model")
        if name == _EMBEDDING and _OUTPUT not in base.tensors:
            raise adapter.tied(base.path, module)
        shape = tuple(int(n) for n in reversed(base.tensors[name].shape))
        if pair.shape != shape:
            raise adapter.misfit(base.path, f"{module} is {pair.shape}, {name} is {shape}")
        heads = heads_of_rows(base, name)
        if heads and len(pair.b) % (2 * heads):
            reason = f"{name} has {len(pair.b)} rows for {heads} heads"
            raise adapter.misfit(base.path, reason)
        placed[name] = Pair(pair.a, pair_rows(pair.b, heads)) if heads else pair
    return placed
