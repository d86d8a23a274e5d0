"""Files that appear complete or not at all, and their digests."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from setup.common import paths
from setup.common.errors import FixableError

_BLOCK = 1 << 20


@contextmanager
def replace_together(*targets: Path, private: bool = False) -> Iterator[tuple[BinaryIO, ...]]:
    """Files open for writing that take their names only when the block ends well.

    Of ``private`` ones only their owner can read a word, from the first one on.
    """
    opener = _open_private if private else None
    with ExitStack() as stack:
        drafts = [stack.enter_context(paths.replacing(path)) for path in targets]
        yield tuple(
            stack.enter_context(open(draft, "xb", _BLOCK, opener=opener)) for draft in drafts
        )


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextmanager
def fixable_write(folder: Path, elsewhere: str = "") -> Iterator[None]:
    """Say what could not be written to ``folder``; ``elsewhere`` is the option that names another.

    Raises:
        FixableError: A full disk, a missing right, a file where a folder should be.
    """
    try:
        yield
    except OSError as error:
        first = "free disk space there" if paths.is_full(error) else "make it a folder of yours"
        raise FixableError(
            f"cannot write to {folder}: {error.strerror or error}",
            f"{first}, or {elsewhere}" if elsewhere else paths.writing_fix(folder, error),
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


@contextmanager
def draft_of(target: Path) -> Iterator[Path]:
    """A path to write a file or folder to, which becomes ``target`` when the block succeeds.

    Raises:
        FixableError: The block or the move failed with an OSError: disk full, not writable.
    """
    try:
        with _cleaned_up_when_ended(), paths.replacing(target) as draft:
            yield draft
            paths.use_umask(draft)
    except OSError as error:
        raise cannot_write(target, error.strerror or str(error)) from None


@contextmanager
def _cleaned_up_when_ended() -> Iterator[None]:
    """Let SIGTERM, which `kill` and service managers send, end the block as an exception does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def cannot_write(target: Path, reason: str) -> FixableError:
    """The failure of every export that finds no room or no permission."""
    return FixableError(
        f"cannot write {target}: {reason}",
        f"free disk space, or make {target.parent} a folder you can write to",
    )
