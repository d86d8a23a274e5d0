"""Files that appear complete or not at all, and their digests."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from setup.errors import FixableError

_BLOCK = 1 << 20
_DRAFT = ".partial"
_NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


@contextmanager
def replace_together(*paths: Path) -> Iterator[tuple[BinaryIO, ...]]:
    """Files open for writing that take their names only when the block ends well.

    When it does not, whatever stood at the paths before still stands there, and nothing is left.
    The drafts have names of their own, so two commands at once never write into one file.
    """
    drafts = [draft_beside(path) for path in paths]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with ExitStack() as stack:
            files = tuple(stack.enter_context(path.open("xb", buffering=_BLOCK)) for path in drafts)
            yield files
        for source, target in zip(drafts, paths, strict=True):
            source.replace(target)
    finally:
        for path in drafts:
            path.unlink(missing_ok=True)


def draft_beside(path: Path) -> Path:
    """A name for a draft of ``path`` that no other command has."""
    return path.with_name(f".{path.name}.{uuid4().hex[:12]}{_DRAFT}")


def drafts_beside(path: Path) -> list[Path]:
    """The drafts of ``path`` that commands left which were killed."""
    return list(path.parent.glob(f".{path.name}.*{_DRAFT}"))


@contextmanager
def fixable_write(folder: Path, elsewhere: str) -> Iterator[None]:
    """Say what could not be written to ``folder``; ``elsewhere`` is the option that names another.

    Raises:
        FixableError: A full disk, a missing right, a file where a folder should be.
    """
    try:
        yield
    except OSError as error:
        first = "free disk space there" if error.errno in _NO_ROOM else "make it a folder of yours"
        raise FixableError(
            f"cannot write to {folder}: {error.strerror or error}", f"{first}, or {elsewhere}"
        ) from None


@contextmanager
def fixable_read(name: Path | str) -> Iterator[None]:
    """Say what of the source ``name`` could not be read.

    Raises:
        FixableError: A missing right, a broken disk or file.
    """
    try:
        yield
    except OSError as error:
        raise FixableError(
            f"cannot read {error.filename or name}: {error.strerror or error}",
            "make it readable, then the same command again",
        ) from None


def sha256_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def sha256_folder(folder: Path) -> str:
    """SHA-256 (hex) of the names and bytes of a folder's files, those of hidden names left out."""
    digest = hashlib.sha256()
    for path in sorted(visible_files(folder)):
        name = path.relative_to(folder).as_posix()
        digest.update(f"{name}\0{sha256_file(path)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def visible_files(folder: Path) -> Iterator[Path]:
    """Every file under a folder but those whose name, or a folder's on the way, is hidden."""
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            path = Path(parent, name)
            if not name.startswith(".") and path.is_file():
                yield path
