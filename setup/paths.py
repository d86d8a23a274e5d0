"""Where this machine keeps what the repository must not: models, endpoint state, keys.

``FINETUNE_PHI_HOME`` moves everything under a folder of your own, ``FINETUNE_PHI_MODELS`` only the
model files, which several homes can share.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import platformdirs

REPOSITORY = Path(__file__).resolve().parent.parent
MAKE_ROOM = "free disk space, or set FINETUNE_PHI_HOME to a folder with room"


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


def runs_folder() -> Path:
    """Evaluation runs and their reports; in the repository, but ignored by git."""
    return _folder("runs", REPOSITORY)


def batch_folder() -> Path:
    """Data of batch runs that promptflow could not read as it was, as lines of JSON."""
    return _folder("batch", platformdirs.user_state_path("finetune-phi"))


def write_private(path: Path, content: dict[str, Any]) -> None:
    """Write JSON atomically to a file that only its owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            json.dump(content, file, indent=2)
        Path(draft).replace(path)
    finally:
        Path(draft).unlink(missing_ok=True)


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
