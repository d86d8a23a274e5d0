"""GGUF model files: are they whole, and the same weights in half precision."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setup.common.errors import FixableError

_FIX = "set model.source to a whole .gguf file"
# Written anew by the writer, or untrue once the weights are no longer quantised.
_WRITER_OWNS = {"general.architecture", "general.quantization_version", "general.file_type"}

Progress = Callable[[int, int], None]
Change = Callable[[str, NDArray[np.float32]], NDArray[np.float32]]


def _unchanged(_: str, weights: NDArray[np.float32]) -> NDArray[np.float32]:
    return weights


def check_gguf(path: Path) -> None:
    """Raise FixableError unless ``path`` is a GGUF file with all its tensor data.

    llama.cpp only says "failed to init" for a broken file; this says what is broken.
    """
    open_gguf(path)


def open_gguf(path: Path) -> Any:
    """The ``gguf.GGUFReader`` of the file at ``path``, its tensor data mapped into memory.

    Raises:
        FixableError: There is no file, it is not a GGUF file, or it is damaged or cut off.
    """
    import gguf  # noqa: PLC0415 - a second of import that most commands never need

    if not path.is_file():
        raise FixableError(f"no model file at {path}", _FIX)
    with path.open("rb") as file:
        magic = file.read(4)
    if magic != b"GGUF":
        raise FixableError(f"{path} is not a GGUF model file (it starts with {magic!r})", _FIX)
    try:
        return gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError, struct.error, UnicodeDecodeError) as error:
        what = f"{path} is damaged or cut off ({type(error).__name__} while reading it)"
        raise FixableError(what, _FIX) from None


def write_f16(source: Path, target: Path, on_progress: Progress) -> None:
    """Write the model in ``source`` to ``target`` with every matrix as F16, vectors as F32.

    Quantised arithmetic spoils a model of 135M parameters; half precision does not.
    ``on_progress`` receives the tensors done and the tensors in all.
    """
    write_reader_as_f16(open_gguf(source), target, on_progress)


def write_reader_as_f16(
    reader: Any, target: Path, on_progress: Progress, change: Change = _unchanged
) -> None:
    """Write an open GGUF file as ``write_f16`` does, each tensor passed through ``change``.

    ``change`` receives a tensor's name and its weights as float32, and returns weights of the same
    shape. Tensors are converted one at a time, so memory stays at the largest of them.

    Raises:
        FixableError: A tensor is quantised in a way that cannot be undone here.
        OSError: ``target`` cannot be written.
    """
    import gguf  # noqa: PLC0415

    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    _copy_metadata(reader, writer)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    for tensor in reader.tensors:
        shape = tuple(int(n) for n in reversed(tensor.shape))
        dtype = _dtype(tensor)
        writer.add_tensor_info(tensor.name, shape, dtype, int(np.prod(shape)) * dtype.itemsize)
    write_data(writer, _converted(reader.tensors, on_progress, change))


def write_data(writer: Any, arrays: Iterable[NDArray[Any]]) -> None:
    """Write what the ``gguf.GGUFWriter`` holds and ``arrays``, its tensors in order, and close it.

    Not with the writer's own methods for tensors: those end in numpy's ``tofile``, which keeps
    quiet when the disk fills up during the last few kilobytes of an array.

    Raises:
        OSError: The file cannot be written.
    """
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        file = writer.fout[0]
        writer.write_padding(file, file.tell())
        for array in arrays:
            file.write(np.ascontiguousarray(array).data)
            writer.write_padding(file, array.nbytes)
    finally:
        writer.close()


def _converted(
    tensors: Sequence[Any], on_progress: Progress, change: Change
) -> Iterator[NDArray[Any]]:
    for done, tensor in enumerate(tensors, start=1):
        yield change(tensor.name, _dequantised(tensor)).astype(_dtype(tensor))
        on_progress(done, len(tensors))


def _dtype(tensor: Any) -> np.dtype[Any]:
    return np.dtype(np.float16 if len(tensor.shape) > 1 else np.float32)


def _dequantised(tensor: Any) -> NDArray[np.float32]:
    import gguf  # noqa: PLC0415

    try:
        weights: NDArray[np.float32] = gguf.dequantize(tensor.data, tensor.tensor_type)
    except NotImplementedError:
        kind = tensor.tensor_type.name
        raise FixableError(f"{tensor.name} is quantised as {kind}, unknown here", _FIX) from None
    return weights


def _copy_metadata(reader: Any, writer: Any) -> None:
    import gguf  # noqa: PLC0415

    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in _WRITER_OWNS:
            continue
        is_array = field.types[0] == gguf.GGUFValueType.ARRAY
        element = field.types[-1] if is_array else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=element)


OTHER_BASE_FIX = (
    "--set finetune.base=FOLDER (or a Hugging Face id), the transformers model that the file was "
    "made of; or another model.source"
)


@dataclass(frozen=True)
class Header:
    """The metadata and tables of an open GGUF file; keys are named without their architecture."""

    path: Path
    reader: Any

    @cached_property
    def architecture(self) -> str:
        """``general.architecture``, empty where the file does not say."""
        field = self.reader.fields.get("general.architecture")
        return str(field.contents()) if field else ""

    @cached_property
    def tensors(self) -> dict[str, Any]:
        """The file's tensors by name."""
        return {tensor.name: tensor for tensor in self.reader.tensors}

    def get(self, key: str) -> Any:
        """The value of ``key``, None where it is absent."""
        field = self.reader.fields.get(f"{self.architecture}.{key}")
        return field.contents() if field else None

    def text(self, key: str, default: str) -> str:
        """The text of ``key``, ``default`` where it is absent."""
        value = self.get(key)
        return default if value is None else str(value)

    def number(self, key: str, default: float | None = None) -> float:
        """The number of ``key``; FixableError for a list with one for each layer."""
        value = self.get(key)
        number = default if value is None else value
        if not isinstance(number, (int, float)) or not math.isfinite(number):
            raise self.unknown(key)
        return number

    def count(self, key: str, default: int | None = None) -> int:
        """The whole number of ``key``."""
        return int(self.number(key, default))

    def table(self, name: str, length: int) -> NDArray[np.float64] | None:
        """The ``length`` positive numbers of a tensor, None where it is absent."""
        tensor = self.tensors.get(name)
        if tensor is None:
            return None
        numbers: NDArray[np.float64] = np.asarray(tensor.data, np.float64).ravel()
        if len(numbers) != length or not (np.isfinite(numbers) & (numbers > 0)).all():
            reason = f"{self.path} has {len(numbers)} numbers as {name}, not {length} positive ones"
            raise FixableError(reason, "set model.source to a whole .gguf file")
        return numbers

    def unknown(self, key: str) -> FixableError:
        """The refusal of a key's value, or of its absence."""
        name, value = f"{self.architecture}.{key}", self.get(key)
        told = f"lacks {name}" if value is None else f"has {name} = {value!r:.40}"
        return FixableError(
            f"{self.path} {told}, which cannot be trained as it is served", OTHER_BASE_FIX
        )


def open_header(path: Path) -> Header:
    """The header of the GGUF file at ``path``; FixableError where it is damaged."""
    return Header(path, open_gguf(path))
