"""The fine-tuned model in GGUF: the base with the adapter's update in its weights, or beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from setup.common.errors import FixableError
from setup.common.files import draft_of
from setup.weights import gguf_file
from setup.weights.adapter import Adapter, Matrix, Pair

_F16_MAX = float(np.finfo(np.float16).max)
_ARCHITECTURES = ("llama", "phi3")
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
    import gguf

    if base.architecture not in _ARCHITECTURES:
        known = f"adapters can be exported for {' or '.join(_ARCHITECTURES)}"
        what = f"{base.path} has architecture {base.architecture or 'unknown'}; {known}"
        raise FixableError(what, "set model.source to a Llama or Phi-3 model")
    architecture = gguf.MODEL_ARCH[base.architecture.upper()]
    names = gguf.get_tensor_name_map(architecture, _positive(base, "block_count"))
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
        heads = _heads(base, module.rsplit(".", 1)[-1])
        if heads and len(pair.b) % (2 * heads):
            reason = f"{name} has {len(pair.b)} rows for {heads} heads"
            raise adapter.misfit(base.path, reason)
        placed[name] = Pair(pair.a, _interleave(pair.b, heads)) if heads else pair
    return placed


def _heads(base: gguf_file.Header, kind: str) -> int:
    """Heads among which the rows are shared out, 0 where the rows keep their order."""
    if base.architecture != "llama" or kind not in ("q_proj", "k_proj"):
        return 0
    grouped = kind == "k_proj" and base.get("attention.head_count_kv") is not None
    return _positive(base, "attention.head_count_kv" if grouped else "attention.head_count")


def _positive(base: gguf_file.Header, key: str) -> int:
    value = base.get(key)
    if isinstance(value, int) and value > 0:
        return value
    name = f"{base.architecture}.{key}"
    what = f"{base.path} has no single number as {name}, so the adapter cannot be placed"
    raise FixableError(what, "set model.source to a plain Llama or Phi-3 model")


def _interleave(rows: Matrix, heads: int) -> Matrix:
    """Transformers' order of a rotary embedding's rows to llama.cpp's.

    Within a head transformers rotates row i with row i + half, llama.cpp with the next one, and
    its converter reorders the rows of Llama's queries and keys accordingly. Reordering the rows
    of ``b @ a`` is reordering those of ``b``. Source: ``LlamaModel.permute`` in llama.cpp's
    convert_hf_to_gguf.py.
    """
    halves = rows.reshape(heads, 2, len(rows) // (2 * heads), rows.shape[1])
    paired: Matrix = halves.swapaxes(1, 2).reshape(rows.shape)
    return paired
