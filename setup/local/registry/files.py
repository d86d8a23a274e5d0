"""The registry's files: where they lie, whether a copy is whole, how one is removed."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

from setup.data.files import sha256_file
from setup.errors import FixableError
from setup.local.registry.store import artifacts_folder


def local_path(location: str) -> Path:
    """The path that MLflow's artifact location, a ``file:`` URI, names."""
    return Path(url2pathname(urlparse(location).path))


def check_copy(source: Path, copy: Path) -> None:
    """Raise FixableError unless every file of ``source``, a file or folder, is in ``copy``."""
    files = [path for path in source.rglob("*") if path.is_file()] if source.is_dir() else [source]
    for path in files:
        copied = copy / path.relative_to(source)
        if not copied.is_file() or sha256_file(copied) != sha256_file(path):
            what = f"{copied} is not the same as {path} right after it was copied"
            raise FixableError(what, "check the disk and its free space, then register again")


def remove_files(location: str) -> None:
    """Remove the folder that MLflow made for a run or model with the artifacts ``location``."""
    folder = local_path(location).parent
    # A database that was edited, or moved here, may name any folder of this machine.
    if folder.is_relative_to(artifacts_folder().resolve()):
        shutil.rmtree(folder, ignore_errors=True)
