"""GGUF model files: are they whole, what do they say, and the same weights in half precision."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setup.common.errors import FixableError

OTHER_BASE_FIX = (
    "--set finetune.base=FOLDER (or a Hugging Face id), the transformers model that the file was "
    "made of; or another model.source"
)
_FIX = "set model.source to a whole .gguf file"
# Written anew by the writer, or untrue once the weights are no longer quantised.
_WRITER_OWNS = {"general.architecture", "general.quantization_version", "general.file_type"}

Progress = Callable[[int, int], None]
Change = Callable[[str, NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Header:
    """The metadata and tables of an open GGUF file; keys are named without their architecture.

    ``taken`` are the keys whose value somebody has asked for.
    """

    path: Path
    reader: Any
    taken: set[str] = field(default_factory=set)

    @cached_property
    def architecture(self) -> str:
        """``general.architecture``, empty where the file does not say."""
        name = self.reader.fields.get("general.architecture")
        return str(name.contents()) if name else ""

    @cached_property
    def tensors(self) -> dict[str, Any]:
        """The file's tensors by name."""
        return {tensor.name: tensor for tensor in self.reader.tensors}

    def name_map(self, layers: int) -> Any:
        """gguf's ``TensorNameMap`` of the file's architecture; FixableError where it knows none."""
        import gguf

        known = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
        if self.architecture not in known:
            what = f"{self.path} is of the unknown architecture {self.architecture!r}"
            raise FixableError(what, "name another model.source")
        return gguf.get_tensor_name_map(known[self.architecture], layers)

    def get(self, key: str) -> Any:
        """The value of ``key``, None where it is absent."""
        value = self.reader.fields.get(f"{self.architecture}.{key}")
        return value.contents() if value else None

    def text(self, key: str, default: str) -> str:
        """The text of ``key``, ``default`` where it is absent."""
        self.taken.add(key)
        value = self.get(key)
        return default if value is None else str(value)

    def number(self, key: str, default: float | None = None) -> float:
        """The number of ``key``; FixableError for a list with one for each layer."""
        self.taken.add(key)
        value = self.get(key)
        number = default if value is None else value
        if not isinstance(number, (int, float)) or not math.isfinite(number):
            raise self.unknown(key)
        return number

    def count(self, key: str, default: int | None = None) -> int:
        """The whole number of ``key``."""
        return int(self.number(key, default))

    def weights(self, name: str) -> NDArray[np.float32]:
        """The weights of a tensor, dequantised; FixableError for an unknown quantisation."""
        import gguf

        tensor = self.tensors[name]
        try:
            weights: NDArray[np.float32] = gguf.dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError:
            what = f"{name} is quantised as {tensor.tensor_type.name}, unknown here"
            raise FixableError(what, _FIX) from None
        return weights

    def table(self, name: str, length: int) -> NDArray[np.float64] | None:
        """The ``length`` positive numbers of a tensor, None where it is absent."""
        tensor = self.tensors.get(name)
        if tensor is None:
            return None
        numbers: NDArray[np.float64] = np.asarray(tensor.data, np.float64).ravel()
        if len(numbers) != length or not (np.isfinite(numbers) & (numbers > 0)).all():
            reason = f"{self.path} has {len(numbers)} numbers as {name}, not {length} positive ones"
            raise FixableError(reason, _FIX)
        return numbers

    def unknown(self, key: str) -> FixableError:
        """Return the refusal of a key's value, or of its absence."""
        name, value = f"{self.architecture}.{key}", self.get(key)
        told = f"lacks {name}" if value is None else f"has {name} = {value!r:.40}"
        what = f"{self.path} {told}, which cannot be trained as it is served"
        return FixableError(what, OTHER_BASE_FIX)


def open_header(path: Path) -> Header:
    """The header of the GGUF file at ``path``; FixableError as ``open_gguf``."""
    return Header(path, open_gguf(path))


def open_gguf(path: Path) -> Any:
    """The ``gguf.GGUFReader`` of the file at ``path``, its tensor data mapped into memory.

    llama.cpp only says "failed to init" for a broken file; this says what is broken.

    Raises:
        FixableError: There is no file, it is not a GGUF file, or it is damaged or cut off.
    """
    import gguf

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


def write_f16(
    source: Header, target: Path, on_progress: Progress, change: Change = lambda _, weights: weights
) -> None:
    """Write ``source`` to ``target`` with every matrix as F16 and every vector as F32.

    Quantised arithmetic spoils a model of 135M parameters; half precision does not. ``change``
    receives a tensor's name and its weights as float32, and returns weights of the same shape.
    One tensor is converted at a time, so memory stays at the largest of them. ``on_progress``
    receives the tensors done and the tensors in all.

    Raises:
        FixableError: The file does not name its architecture, or a tensor is quantised in a way
            that cannot be undone here.
        OSError: ``target`` cannot be written.
    """
    import gguf

    tensors = source.reader.tensors
    types = [np.dtype(np.float16 if len(tensor.shape) > 1 else np.float32) for tensor in tensors]
    writer = open_writer(source, target, gguf.LlamaFileType.MOSTLY_F16)
    for tensor, dtype in zip(tensors, types, strict=True):
        shape = tuple(int(n) for n in reversed(tensor.shape))
        writer.add_tensor_info(tensor.name, shape, dtype, math.prod(shape) * dtype.itemsize)

    def converted() -> Iterator[NDArray[Any]]:
        for done, (tensor, dtype) in enumerate(zip(tensors, types, strict=True), start=1):
            yield change(tensor.name, source.weights(tensor.name)).astype(dtype)
            on_progress(done, len(tensors))

    write_data(writer, converted())


def open_writer(source: Header, target: Path, file_type: Any) -> Any:
    """A ``gguf.GGUFWriter`` of ``target`` that holds the metadata of ``source`` and no tensor yet.

    Raises:
        FixableError: The file does not name its architecture.
    """
    import gguf

    if not source.architecture:
        what = f"{source.path} does not say which model it is: it has no general.architecture"
        raise FixableError(what, _FIX)
    writer = gguf.GGUFWriter(target, source.architecture)
    for name, value in source.reader.fields.items():
        if not name.startswith("GGUF.") and name not in _WRITER_OWNS:
            is_array = value.types[0] == gguf.GGUFValueType.ARRAY
            element = value.types[-1] if is_array else None
            writer.add_key_value(name, value.contents(), value.types[0], sub_type=element)
    writer.add_file_type(file_type)
    return writer


def write_data(writer: Any, arrays: Iterable[NDArray[Any]]) -> None:
    """Write what the ``gguf.GGUFWriter`` holds and ``arrays``, its tensors in order, and close it.

    Not with the writer's own methods for tensors: those end in numpy's ``tofile``, which keeps
    quiet when the disk fills up during the last few kilobytes of an array.
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
