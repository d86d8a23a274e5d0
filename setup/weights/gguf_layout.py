"""The tensor of a GGUF file that a module's update belongs to, and the order of its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from setup.common.errors import FixableError
from setup.weights.adapter import Adapter, Matrix, Pair

ARCHITECTURES = ("llama", "phi3")


def place(adapter: Adapter, base: Any, path: Path) -> dict[str, Pair]:
    """The adapter's pairs under the names of the base's tensors, rows as the base has them.

    Args:
        adapter: In transformers' names and order.
        base: The open ``gguf.GGUFReader`` of the file at ``path``.
        path: For the messages.

    Raises:
        FixableError: Another architecture, or a pair that fits no tensor of the base.
    """
    import gguf  # noqa: PLC0415 - a second of import that most commands never need

    architecture = architecture_of(base)
    if architecture not in ARCHITECTURES:
        known = f"adapters can be exported for {' or '.join(ARCHITECTURES)}"
        what = f"{path} has architecture {architecture or 'unknown'}; {known}"
        raise FixableError(what, "set model.source to a Llama or Phi-3 model")
    names = gguf.get_tensor_name_map(
        gguf.MODEL_ARCH[architecture.upper()], _number(base, "block_count", path)
    )
    shapes = {tensor.name: tuple(int(n) for n in reversed(tensor.shape)) for tensor in base.tensors}
    placed: dict[str, Pair] = {}
    for module, pair in adapter.pairs.items():
        name = f"{names.get_name(module)}.weight"
        if name not in shapes:
            raise _misfit(adapter, path, f"{module} is not a matrix of that model")
        update = (pair.b.shape[0], pair.a.shape[1])
        if update != shapes[name]:
            raise _misfit(adapter, path, f"{module} is {update}, {name} is {shapes[name]}")
        heads = _heads(base, architecture, module, path)
        if heads and update[0] % (2 * heads):
            raise _misfit(adapter, path, f"{name} has {update[0]} rows for {heads} heads")
        placed[name] = Pair(pair.a, _interleave(pair.b, heads)) if heads else pair
    return placed


def architecture_of(base: Any) -> str:
    """``general.architecture`` of an open GGUF file, empty where it does not say."""
    field = base.fields.get("general.architecture")
    return str(field.contents()) if field else ""


def _heads(base: Any, architecture: str, module: str, path: Path) -> int:
    """Heads among which the rows are shared out, 0 where the rows keep their order."""
    kind = module.rsplit(".", 1)[-1]
    if architecture != "llama" or kind not in ("q_proj", "k_proj"):
        return 0
    shared = f"{architecture}.attention.head_count_kv" in base.fields
    grouped = kind == "k_proj" and shared
    return _number(base, "attention.head_count_kv" if grouped else "attention.head_count", path)


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


def _number(base: Any, name: str, path: Path) -> int:
    key = f"{architecture_of(base)}.{name}"
    field = base.fields.get(key)
    value = field.contents() if field else None
    if isinstance(value, int) and value > 0:
        return value
    what = f"{path} has no single number as {key}, so the adapter cannot be placed"
    raise FixableError(what, "set model.source to a plain Llama or Phi-3 model")


def _misfit(adapter: Adapter, path: Path, reason: str) -> FixableError:
    return FixableError(
        f"the adapter in {adapter.folder} does not fit {path}: {reason}",
        "fine-tune on that very model: python -m setup finetune --recipe NAME",
    )
