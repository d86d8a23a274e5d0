"""GGUF model files: are they whole, and the same weights in half precision."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from setup.errors import FixableError

_FIX = "set model.source to a whole .gguf file"
# Written anew by the writer, or untrue once the weights are no longer quantised.
_WRITER_OWNS = {"general.architecture", "general.quantization_version", "general.file_type"}


def check_gguf(path: Path) -> None:
    """Raise FixableError unless ``path`` is a GGUF file with all its tensor data.

    llama.cpp only says "failed to init" for a broken file; this says what is broken.
    """
    if not path.is_file():
        raise FixableError(f"no model file at {path}", _FIX)
    with path.open("rb") as file:
        magic = file.read(4)
    if magic != b"GGUF":
        raise FixableError(f"{path} is not a GGUF model file (it starts with {magic!r})", _FIX)
    try:
        _open(path)
    except (ValueError, IndexError, KeyError, struct.error, UnicodeDecodeError) as error:
        what = f"{path} is damaged or cut off ({type(error).__name__} while reading it)"
        raise FixableError(what, _FIX) from None


def write_f16(source: Path, target: Path, on_progress: Callable[[int, int], None]) -> None:
    """Write the model in ``source`` to ``target`` with every matrix as F16, vectors as F32.

    Quantised arithmetic spoils a model of 135M parameters; half precision does not. Tensors are
    converted one at a time, so memory stays at the largest of them. ``on_progress`` receives
    the tensors done and the tensors in all.
    """
    import gguf  # noqa: PLC0415 - a second of import that most commands never need

    reader = _open(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    _copy_metadata(reader, writer)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    for tensor in reader.tensors:
        shape = tuple(int(n) for n in reversed(tensor.shape))
        dtype = np.dtype(np.float16 if len(shape) > 1 else np.float32)
        size = int(np.prod(shape)) * dtype.itemsize
        writer.add_tensor_info(tensor.name, shape, dtype, size)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for done, tensor in enumerate(reader.tensors, start=1):
        weights = gguf.dequantize(tensor.data, tensor.tensor_type)
        dtype = np.dtype(np.float16 if len(tensor.shape) > 1 else np.float32)
        writer.write_tensor_data(weights.astype(dtype))
        on_progress(done, len(reader.tensors))
    writer.close()


def _copy_metadata(reader: Any, writer: Any) -> None:
    import gguf  # noqa: PLC0415

    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in _WRITER_OWNS:
            continue
        is_array = field.types[0] == gguf.GGUFValueType.ARRAY
        element = field.types[-1] if is_array else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=element)


def _open(path: Path) -> Any:
    import gguf  # noqa: PLC0415

    return gguf.GGUFReader(path)
