"""Results that appear whole or not at all."""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from setup.errors import FixableError
from setup.paths import use_umask


@contextmanager
def draft_of(target: Path) -> Iterator[Path]:
    """A path to write a file or folder to, which becomes ``target`` when the block succeeds.

    It lies beside ``target``, so that the move is a rename. When the block fails, nothing is left
    and what was at ``target`` stays.

    Raises:
        FixableError: The block or the move failed with an OSError: disk full, not writable.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        room_for = tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-")
        with _cleaned_up_when_ended(), room_for as room:
            draft = Path(room) / target.name
            yield draft
            use_umask(draft)
            if target.is_dir():  # a folder with content cannot be renamed over
                target.rename(Path(room) / "replaced")
            draft.replace(target)
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
