"""The folders of this machine for what the repository must not keep: models, endpoints, keys.

``FINETUNE_PHI_HOME`` moves everything under a folder of your own, ``FINETUNE_PHI_MODELS`` only the
model files, which several homes can share.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import platformdirs

from setup.common.errors import FixableError

REPOSITORY = Path(__file__).resolve().parents[2]
DRAFT = ".partial"
_REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
MAKE_ROOM = "free disk space, or set FINETUNE_PHI_HOME to a folder with room"


def is_full(error: OSError) -> bool:
    """Tell whether the disk, or what one user or one file may take of it, is full."""
    return error.errno in {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


_ROOMS = ("finetunes", "registry", "endpoints", "feedback")


def writing_fix(path: Path, error: OSError) -> str:
    """Return the fix where ``path``, one of these folders or inside one, cannot be written."""
    shared = os.environ.get("FINETUNE_PHI_MODELS")
    variable = "FINETUNE_PHI_HOME"
    # Both variables may name one folder, in which models lie flat.
    if shared and path.is_relative_to(shared):
        first = path.relative_to(shared).parts[:1]
        variable = variable if first in {(room,) for room in _ROOMS} else "FINETUNE_PHI_MODELS"
    if is_full(error):
        return f"free disk space, or set {variable} to a folder with room"
    return f"set {variable} to a folder of your own"


def explain_refusal(error: OSError) -> FixableError | None:
    """A disk that is full or may not be written to, as the user's to fix; None for all else."""
    if error.errno not in _REFUSALS or not isinstance(error.filename, (str, Path)):
        return None
    path = Path(error.filename)
    folders = (models_folder(), registry_folder().parent)
    own = any(path.is_relative_to(folder) or folder.is_relative_to(path) for folder in folders)
    fix = writing_fix(path, error) if own else "check its owner, its permissions and the disk"
    return FixableError(f"cannot write {path}: {error.strerror}", fix)


def models_folder() -> Path:
    """Cached model files; safe to delete, ``deploy`` fetches them again."""
    shared = os.environ.get("FINETUNE_PHI_MODELS")
    return (
        Path(shared) if shared else _folder("models", platformdirs.user_cache_path("finetune-phi"))
    )


def finetune_folder(name: str) -> Path:
    """Checkpoints, adapter and result of the fine-tuning run ``name``."""
    return _folder(f"finetunes/{name}", platformdirs.user_state_path("finetune-phi"))


def registry_folder() -> Path:
    """The MLflow database and the artifacts of every registered model."""
    return _folder("registry", platformdirs.user_state_path("finetune-phi"))


def endpoint_folder(name: str) -> Path:
    """State of the local endpoint ``name``: settings, keys, pid file and logs."""
    return _folder(f"endpoints/{name}", platformdirs.user_state_path("finetune-phi"))


def feedback_folder() -> Path:
    """The folder of what endpoints keep of conversations, where their recipes say so."""
    return _folder("feedback", platformdirs.user_state_path("finetune-phi"))


def runs_folder() -> Path:
    """Evaluation runs and their reports; in the repository, but ignored by git."""
    return _folder("runs", REPOSITORY)


def page_folder() -> Path:
    """The chat page as it is served: promptflow's, with a style of ours; safe to delete."""
    return _folder("chat-page", platformdirs.user_cache_path("finetune-phi"))


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path to write a file or folder to, which becomes ``target`` when the block ends well.

    When it does not, whatever stood there before still stands there, and nothing is left. The draft
    has a name of its own, so two commands at once never write into one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{uuid4().hex[:12]}{DRAFT}")
    old = draft.with_suffix(".old")
    try:
        yield draft
        if target.is_dir():  # a folder with content cannot be renamed over
            target.rename(old)
        draft.replace(target)
    finally:
        if old.exists() and not target.exists():
            old.rename(target)
        for path in (draft, old):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def drafts_beside(path: Path) -> list[Path]:
    """The drafts of ``path`` that commands left which were killed."""
    return list(path.parent.glob(f".{path.name}.*{DRAFT}"))


def write_private(path: Path, content: dict[str, Any]) -> None:
    """Write JSON atomically to a file that only its owner can read."""
    with replacing(path) as draft:
        draft.touch(mode=0o600, exist_ok=False)
        draft.write_text(json.dumps(content, indent=2), encoding="utf-8", newline="\n")


def use_umask(path: Path) -> None:
    """Give every file at or below ``path`` the permissions that a new file has here.

    Some libraries write through a temporary file, which its owner alone can read.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as room:
        probe = Path(room) / "probe"
        probe.touch()
        mode = probe.stat().st_mode
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            file.chmod(mode)


def portable_name(source: str) -> str:
    """The name of a model that others may read: of a path of this machine, its last part."""
    path = Path(source).expanduser()
    is_path = path.is_absolute() or path.suffix == ".gguf" or path.exists()
    return path.name if is_path else source


def without_home(value: Any) -> Any:
    """``value``, a text or texts in lists and tables, with ``~`` for this user's home folder."""
    if isinstance(value, dict):
        return {name: without_home(part) for name, part in value.items()}
    if isinstance(value, list):
        return [without_home(part) for part in value]
    home = str(Path.home())
    if isinstance(value, str) and len(home) > 1 and value.startswith((f"{home}/", f"{home}\\")):
        return f"~{value[len(home) :]}"
    return value


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in ``path``, None where there is no readable one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _folder(name: str, default: Path) -> Path:
    home = os.environ.get("FINETUNE_PHI_HOME")
    return (Path(home) if home else default) / name
