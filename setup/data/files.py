"""Files that appear complete or not at all, and their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

_BLOCK = 1 << 20


@contextmanager
def replace_together(*paths: Path) -> Iterator[tuple[BinaryIO, ...]]:
    """Files open for writing that take their names only when the block ends well.

    When it does not, whatever stood at the paths before still stands there, and nothing is left.
    """
    partial = [path.with_name(f".{path.name}.partial") for path in paths]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with ExitStack() as stack:
            files = tuple(
                stack.enter_context(path.open("wb", buffering=_BLOCK)) for path in partial
            )
            yield files
        for source, target in zip(partial, paths, strict=True):
            source.replace(target)
    finally:
        for path in partial:
            path.unlink(missing_ok=True)


def sha256_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
