"""How much memory a run took, and what to tell when there was not enough."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from setup.errors import FixableError


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
    import resource  # noqa: PLC0415 - not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
