"""A GGUF file in fewer bits: the mixtures Q8_0, Q5_K_M and Q4_K_M as llama.cpp makes them.

Which tensor gets which type: ``llama_tensor_get_type_impl`` and ``tensor_type_fallback`` of
llama.cpp's src/llama-quant.cpp. The arithmetic is ggml's own, out of the engine's library; where
that does not offer it (Windows), gguf's for the types that it can make.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from setup.common.errors import FixableError
from setup.common.files import draft_of
from setup.recipe.local import Quantization
from setup.weights import gguf_file

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType

Bytes = NDArray[np.uint8]
# The type of most tensors, and of those that decide more.
_MIXTURES = {"Q8_0": ("Q8_0", "Q8_0"), "Q5_K_M": ("Q5_K", "Q6_K"), "Q4_K_M": ("Q4_K", "Q6_K")}
# For rows that do not divide into blocks of 256, types with blocks of 32; then half precision.
_FALLBACKS = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "Q8_0": "F16"}
_FALLBACKS |= {"Q5_0": "F16", "Q5_1": "F16"}
_KEPT = re.compile(r"_norm\.weight$|ffn_gate_inp\.weight$|^(?!.*\.weight$)")
_VALUES = re.compile(r"attn_(v|qkv|kv_b)\.weight$")
_DOWN = re.compile(r"ffn_down")
_LAYER = re.compile(r"^blk\.(\d+)\.")
_WHOLE = {"F32", "F16", "BF16"}
_ENCODING = 2  # of ggml's quantised blocks: general.quantization_version


def quantize_gguf(
    source: Path, target: Path, mixture: Quantization, on_progress: Callable[[int, int], None]
) -> list[str]:
    """Write ``source`` to ``target`` as ``mixture``; returns what its user should know, in lines.

    Vectors and norms stay as they are. Memory stays at the largest tensor.

    Raises:
        FixableError: The file is damaged, the engine's library cannot quantise here, or ``target``
            cannot be written. ``target`` is then as before.
    """
    import gguf

    header = gguf_file.open_header(source)
    types, fallbacks = _types(header, mixture)
    for name in set(types.values()):
        _refuse_unmakeable(name, mixture)
    with draft_of(target) as draft:
        file_type = gguf.LlamaFileType[f"MOSTLY_{mixture}"]
        writer = gguf_file.open_writer(header, draft, file_type)
        writer.add_quantization_version(_ENCODING)
        for tensor in header.reader.tensors:
            kind = gguf.GGMLQuantizationType[types.get(tensor.name, tensor.tensor_type.name)]
            shape = tuple(int(n) for n in reversed(tensor.shape))
            block, size = gguf.GGML_QUANT_SIZES[kind]
            count = tensor.n_elements // block * size
            writer.add_tensor_info(tensor.name, shape, np.dtype(np.float32), count, kind)
        gguf_file.write_data(writer, _quantized(header, types, on_progress))
    return [*_rounded_before(header), *_describe(fallbacks)]


def _rounded_before(header: gguf_file.Header) -> Iterator[str]:
    before = {tensor.tensor_type.name for tensor in header.reader.tensors} - _WHOLE
    if before:
        kinds = ", ".join(sorted(before))
        yield f"{header.path.name} is quantised already ({kinds}): what that rounded stays lost"


def _describe(fallbacks: dict[str, list[str]]) -> Iterator[str]:
    """Yield a line on the tensors that got another type than the rule names, if there are any."""
    if not fallbacks:
        return
    parts = []
    for kind, names in fallbacks.items():
        kinds = sorted({_LAYER.sub("", name).removesuffix(".weight") for name in names})
        parts.append(f"{len(names)} in {kind} ({', '.join(kinds)})")
    count = sum(map(len, fallbacks.values()))
    yield f"{count} tensors have rows that do not divide into blocks: {'; '.join(parts)}"


def _types(
    header: gguf_file.Header, mixture: Quantization
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The type of each tensor that is quantised, and which of them fell back to it."""
    names = [t.name for t in header.reader.tensors if len(t.shape) > 1 and not _KEPT.search(t.name)]
    names.sort(key=_layer)
    types: dict[str, str] = {}
    fallbacks: dict[str, list[str]] = {}
    important = _important(names, header.count("block_count"))
    important.add("output.weight" if "output.weight" in header.tensors else "token_embd.weight")
    for name in names:
        plain, better = _MIXTURES[mixture]
        width = int(header.tensors[name].shape[0])
        named = fitting = better if name in important else plain
        while not _fits(width, fitting):
            fitting = _FALLBACKS[fitting]
        types[name] = fitting
        if fitting != named:
            fallbacks.setdefault(fitting, []).append(name)
    return types, fallbacks


def _layer(name: str) -> int:
    match = _LAYER.match(name)
    return int(match[1]) if match else -1


def _important(names: list[str], layers: int) -> set[str]:
    """The values and the feed-forward's way down of the outer layers, and every third between."""
    values = [name for name in names if _VALUES.search(name)]
    down = [name for name in names if _DOWN.search(name)]
    return {
        name
        for group, count in ((values, len(values)), (down, layers))
        for number, name in enumerate(group)
        if number < count // 8 or number >= 7 * count // 8 or (number - count // 8) % 3 == 2
    }


def _fits(width: int, kind: str) -> bool:
    import gguf

    block, _ = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    return width % int(block) == 0


def _quantized(
    header: gguf_file.Header, types: dict[str, str], on_progress: Callable[[int, int], None]
) -> Iterator[NDArray[Any]]:
    import gguf

    tensors = header.reader.tensors
    for done, tensor in enumerate(tensors, start=1):
        kind = types.get(tensor.name)
        if kind is None:
            yield tensor.data
        else:
            weights = gguf.dequantize(tensor.data, tensor.tensor_type)
            yield _encode(weights.reshape(-1, weights.shape[-1]), gguf.GGMLQuantizationType[kind])
        on_progress(done, len(tensors))


def _encode(rows: NDArray[np.float32], kind: GGMLQuantizationType) -> NDArray[Any]:
    """``rows`` of shape (rows, width) in the blocks of ``kind``, on all cores."""
    import gguf

    library = _ggml()
    if library is None or kind == gguf.GGMLQuantizationType.F16:
        return np.asarray(gguf.quantize(rows, kind))
    rows = np.ascontiguousarray(rows, np.float32)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    count, width = rows.shape
    encoded: Bytes = np.empty((count, width // block * size), np.uint8)
    threads = max(1, os.cpu_count() or 1)

    def encode(first: int, last: int) -> None:
        place = rows.ctypes.data, encoded.ctypes.data
        library(int(kind), *place, first * width, last - first, width, None)

    bounds = [count * part // threads for part in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda pair: encode(*pair), pairwise(bounds)))
    return encoded


@cache
def _ggml() -> Any:
    """``ggml_quantize_chunk`` of the engine's library, None where that does not export it."""
    import xllamacpp

    try:
        function = ctypes.CDLL(str(xllamacpp.xllamacpp.__file__)).ggml_quantize_chunk
    except (OSError, AttributeError):
        return None
    function.restype = ctypes.c_size_t
    function.argtypes = [
        *(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),
        *(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p),
    ]
    return function


def _refuse_unmakeable(kind: str, mixture: Quantization) -> None:
    if _ggml() is None and kind.endswith("_K"):
        raise FixableError(
            f"{mixture} cannot be made here: the engine's library (xllamacpp) does not offer its "
            "quantiser on this system",
            "take Q8_0, or quantise the half-precision file with llama.cpp's llama-quantize",
        )
