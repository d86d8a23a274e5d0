"""Doctor: everything that would fail later, found now, each with its fix."""

from __future__ import annotations

import importlib
import importlib.metadata
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from setup.common.checks import Check, environment_checks, unmet
from setup.common.errors import FixableError
from setup.common.paths import finetune_folder, models_folder
from setup.common.promptflow_store import check_keyring
from setup.local.control import LocalEndpoint, refuse_held_port
from setup.recipe.local import Recipe
from setup.weights.fetch import is_kept_as_it_is, model_path, verify_model

_GIB = 1 << 30
_DISK_NEEDED = 3 * _GIB  # the served model, the fine-tuned one, and checkpoints
_MEMORY_NEEDED = 3 * _GIB  # while the recipe's model is fine-tuned; serving takes 1


def run_checks(endpoint: LocalEndpoint) -> Iterator[Check]:
    """Every check in turn, the quick ones first."""
    recipe = endpoint.recipe
    yield from environment_checks()
    yield _torch()
    yield _disk(recipe)
    yield _memory()
    yield Check.of("port", lambda: _port(endpoint))
    yield Check.of("model", lambda: _model(recipe))
    yield Check.of("llama.cpp", _llama)
    yield Check.of("keyring", check_keyring)


def require_healthy(endpoint: LocalEndpoint, but: str = "") -> None:
    """Raise FixableError, naming what is wrong, unless every check is passed, ``but`` one."""
    wrong = [check for check in run_checks(endpoint) if not check.ok and check.name != but]
    if wrong:
        what = "; ".join(f"{check.name}: {check.detail}" for check in wrong)
        raise FixableError(
            what, wrong[0].fix if len(wrong) == 1 else endpoint.recipe.command("doctor")
        )


def _torch() -> Check:
    """By itself, for it is installed by itself: a build of the named version, whichever."""
    if wrong := unmet("requirements-torch.txt"):
        return Check("torch", "; ".join(wrong), f"{sys.executable} -m setup.install_torch")
    return Check("torch", importlib.metadata.version("torch"))


def _disk(recipe: Recipe) -> Check:
    folders = models_folder(), finetune_folder(recipe.name).parent
    free, folder = min((_free_space(folder), folder) for folder in folders)
    detail = f"{free / _GIB:.1f} GiB free for models and checkpoints in {folder}"
    if free >= _DISK_NEEDED:
        return Check("disk", detail)
    fix = f"free {_DISK_NEEDED / _GIB:.0f} GiB, or set FINETUNE_PHI_HOME to a folder with room"
    return Check("disk", detail, fix)


def _free_space(folder: Path) -> int:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free


def _memory() -> Check:
    available = psutil.virtual_memory().available
    detail = f"{available / _GIB:.1f} GiB available"
    if available >= _MEMORY_NEEDED:
        return Check("memory", detail)
    return Check("memory", detail, f"close other programs, {_MEMORY_NEEDED / _GIB:.0f} GiB needed")


def _port(endpoint: LocalEndpoint) -> str:
    recipe, process = endpoint.recipe, endpoint.process()
    port = recipe.endpoint.port
    if process is None:
        refuse_held_port(port)
        return f"{port} is free"
    running = endpoint.url.rpartition(":")[2]
    detail = f"{running} is served by endpoint {endpoint.name} (pid {process.pid})"
    if running != str(port):
        raise FixableError(
            f"{detail}, the recipe says {port}",
            f"{recipe.command('stop')}, or --set endpoint.port={running}",
        )
    return detail


def _model(recipe: Recipe) -> str:
    path = model_path(recipe.model)
    if not path.is_file() and not is_kept_as_it_is(recipe.model):
        return f"not fetched yet: {recipe.model.source}; deploy does it"
    verify_model(path)
    return str(path)


def _llama() -> str:
    try:
        module = importlib.import_module("xllamacpp")
    except ImportError as error:
        openmp, packages = "apt-get install libgomp1", "pip install --no-deps -r requirements.txt"
        fix = openmp if "libgomp" in str(error) else packages
        raise FixableError(f"cannot be loaded: {error}", fix) from None
    return f"xllamacpp {module.__version__}"
