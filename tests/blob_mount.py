"""A folder that refuses what mounted blob storage refuses: to rename, to link.

https://github.com/Azure/azure-storage-fuse says what it does not do. In this process ``refusing``
makes it so while a block runs; a process that is started with ``environment`` finds it so.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

_ROOT = Path(__file__).resolve().parent.parent

_REFUSED = ("rename", "replace", "link", "symlink")
_VARIABLE = "TESTS_BLOB_MOUNT"


@contextmanager
def refusing(mount: Path) -> Iterator[None]:
    """Refuse in this process."""
    patches = [mock.patch.object(os, name, _refuse(getattr(os, name), mount)) for name in _REFUSED]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def environment(mount: Path, room: Path) -> dict[str, str]:
    """What makes Python refuse from its start on; ``room`` is a folder for the code that does."""
    room.mkdir(parents=True, exist_ok=True)
    code = "from tests import blob_mount\nblob_mount.refuse_always()\n"
    (room / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": os.pathsep.join([str(room), str(_ROOT)]), _VARIABLE: str(mount)}


def refuse_always() -> None:
    """Refuse to the end of this process, in the folder that its environment names."""
    for name in _REFUSED:
        setattr(os, name, _refuse(getattr(os, name), Path(os.environ[_VARIABLE])))


def _refuse(call: Callable[..., Any], mount: Path) -> Callable[..., Any]:
    def refused(source: Any, target: Any, **options: Any) -> Any:
        if any(Path(path).absolute().is_relative_to(mount) for path in (source, target)):
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), str(source))
        return call(source, target, **options)

    return refused
