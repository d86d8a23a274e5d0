"""The precision that this machine is fast in: measured, for no processor says it reliably."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch

from setup.common.errors import FixableError

PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16"}
_WORTH_IT = 1.3  # below that, the arithmetic around the products eats the gain
_SHAPE = (256, 576, 1536)  # tokens, in, out: the products of a small model
_REPEATS = 8


def choose_dtype(precision: str) -> torch.dtype:
    """The dtype of the frozen weights for ``precision`` ("auto", "fp32" or "bf16").

    "auto" is bf16 on a GPU that has it and on a CPU whose bf16 products are faster; without
    native instructions they are 50 to 100 times slower. Adapters are fp32 in any case.
    """
    if precision != "auto":
        return torch.bfloat16 if precision == "bf16" else torch.float32
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float32
    if torch.backends.mps.is_available():
        return torch.float32
    faster = _seconds(torch.float32) > _WORTH_IT * _seconds(torch.bfloat16)
    return torch.bfloat16 if faster else torch.float32


def _seconds(dtype: torch.dtype) -> float:
    """The best of a few products, the first of them unmeasured."""
    tokens, width, out = _SHAPE
    x, weight = torch.ones(tokens, width, dtype=dtype), torch.ones(out, width, dtype=dtype)
    best = float("inf")
    for repeat in range(_REPEATS):
        start = time.perf_counter()
        torch.nn.functional.linear(x, weight)
        if repeat:
            best = min(best, time.perf_counter() - start)
    return best


def product_flop(dtype: torch.dtype) -> float:
    """The operations a second of this machine's products in ``dtype``, timed on its GPU if any."""
    tokens, width, out = _SHAPE
    if not torch.cuda.is_available():
        return 2 * tokens * width * out / _seconds(dtype)
    side = 4096
    x = torch.ones(side, side, dtype=dtype, device="cuda")
    events: Any = torch.cuda.Event  # has no types
    start, end = (events(enable_timing=True) for _ in range(2))
    x @ x
    start.record()
    for _ in range(_REPEATS):
        x @ x
    end.record()
    torch.cuda.synchronize()
    seconds = float(start.elapsed_time(end)) / 1000
    return 2 * side**3 * _REPEATS / seconds


@contextmanager
def enough_memory() -> Iterator[None]:
    """Turn torch's ways of saying that memory ran out into a FixableError."""
    try:
        yield
    except RuntimeError as error:
        on_cpu = "DefaultCPUAllocator" in str(error)
        if not on_cpu and not isinstance(error, torch.OutOfMemoryError):
            raise
        raise FixableError(
            f"out of memory: {str(error).strip().splitlines()[0]}",
            "--set finetune.checkpointing=true, or fewer finetune.batch_rows",
        ) from None


def peak_memory() -> int:
    """Bytes this process has held at most: of the GPU where there is one, else resident."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
