"""Where the numbers of a run come from: code, packages, model, machine."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from pathlib import Path
from typing import Any

from setup.local.control import LocalEndpoint
from setup.local.rollout import rolled_out
from setup.recipe import Recipe

_PACKAGES = ("promptflow", "promptflow-tools", "promptflow-evals", "sacrebleu", "xllamacpp")
_IGNORED = {".promptflow", "__pycache__", "process_log"}


def hash_flow(folder: Path) -> str:
    """SHA-256 (hex) over the names and bytes of a flow folder's files, line ends folded."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not _IGNORED & set(path.relative_to(folder).parts):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
            digest.update(path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()


def package_versions() -> dict[str, str]:
    """What the scores depend on, and Python."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version()} | found


def served_model(recipe: Recipe, configs: dict[str, str]) -> dict[str, Any]:
    """Which model answers behind a connection, as far as this machine knows.

    ``version`` is the registered version where the connection asks the tuned deployment of the
    recipe's own endpoint; for every other endpoint only what the connection says.
    """
    named = configs.get("deployment") or configs.get("model") or ""
    endpoint = LocalEndpoint(recipe.endpoint.name)
    if endpoint.process() is None or not configs["endpoint"].startswith(f"{endpoint.url}/"):
        return {"deployment": named}
    deployments = endpoint.manage("GET")["deployments"]
    shares = {name: row["traffic"] for name, row in deployments.items()}
    named = named or max(shares, key=lambda name: shares[name])
    file = Path(deployments[named]["model_path"]).name if named in deployments else ""
    version = rolled_out(endpoint) if named == recipe.endpoint.tuned else ""
    model = {"deployment": named, "file": file, "source": recipe.model.source}
    return model | ({"registered": recipe.registry.model, "version": version} if version else {})
