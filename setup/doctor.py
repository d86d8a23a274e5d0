"""Doctor: everything that would fail later, found now, each with its fix."""

from __future__ import annotations

import importlib
import importlib.metadata
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from packaging.requirements import Requirement

from setup.errors import FixableError
from setup.keyrings import check_keyring
from setup.local.control import LocalEndpoint, refuse_held_port
from setup.local.model import is_kept_as_it_is, model_path, verify_model
from setup.paths import REPOSITORY, finetune_folder, models_folder
from setup.recipe import Recipe

_PYTHON = (3, 11), (3, 13)
_GIB = 1 << 30
_DISK_NEEDED = 3 * _GIB  # the served model, the fine-tuned one, and checkpoints
_MEMORY_NEEDED = 3 * _GIB  # while the recipe's model is fine-tuned; serving takes 1


@dataclass(frozen=True)
class Check:
    """One finding: ``detail`` says what was looked at, ``fix`` is empty when all is well."""

    name: str
    detail: str
    fix: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing has to be done."""
        return not self.fix

    def line(self) -> str:
        """For people; the fix in a line of its own."""
        if self.ok:
            return f"ok    {self.name}: {self.detail}"
        return f"FAIL  {self.name}: {self.detail}\n      fix: {self.fix}"

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {**asdict(self), "ok": self.ok}


def run_checks(recipe: Recipe) -> Iterator[Check]:
    """Every check in turn, the quick ones first."""
    yield from environment_checks()
    checks: list[Callable[[Recipe], Check]] = [
        _torch,
        _disk,
        _memory,
        _port,
        _model,
        _llama,
        _keyring,
    ]
    for check in checks:
        yield check(recipe)


def require_healthy(recipe: Recipe) -> None:
    """Raise FixableError, naming what is wrong, unless every check is passed."""
    wrong = [check for check in run_checks(recipe) if not check.ok]
    if wrong:
        what = "; ".join(f"{check.name}: {check.detail}" for check in wrong)
        raise FixableError(what, wrong[0].fix if len(wrong) == 1 else "python -m setup doctor")


def environment_checks() -> Iterator[Check]:
    """What every target needs: this Python, and the packages."""
    yield _python()
    yield _packages()


def _python() -> Check:
    low, high = _PYTHON
    version = ".".join(str(part) for part in sys.version_info[:3])
    if low <= sys.version_info[:2] <= high:
        return Check("python", version)
    wanted = f"{low[0]}.{low[1]} to {high[0]}.{high[1]}"
    return Check("python", f"{version}, prompt flow needs {wanted}", f"use Python {wanted}")


def _packages() -> Check:
    wrong = [problem for need in _named_in("requirements.in") if (problem := _unmet(need))]
    if wrong:
        fix = f"{sys.executable} -m pip install --no-deps -r requirements.txt"
        return Check("packages", "; ".join(wrong), fix)
    return Check("packages", "as requirements.in names them")


def _torch(_: Recipe) -> Check:
    """By itself, for it is installed by itself: a build of the named version, whichever."""
    wrong = [problem for need in _named_in("requirements-torch.txt") if (problem := _unmet(need))]
    if wrong:
        return Check("torch", "; ".join(wrong), f"{sys.executable} -m setup.install_torch")
    return Check("torch", importlib.metadata.version("torch"))


def _named_in(file: str) -> Iterator[Requirement]:
    for line in (REPOSITORY / file).read_text(encoding="utf-8").splitlines():
        requirement = line.split("#")[0].strip()
        if requirement:
            yield Requirement(requirement)


def _unmet(need: Requirement) -> str:
    if need.marker and not need.marker.evaluate():
        return ""
    try:
        found = importlib.metadata.version(need.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{need.name} is missing"
    met = need.specifier.contains(found, prereleases=True)
    return "" if met else f"{need.name} is {found}, not {need.specifier}"


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


def _memory(_: Recipe) -> Check:
    available = psutil.virtual_memory().available
    detail = f"{available / _GIB:.1f} GiB available"
    if available >= _MEMORY_NEEDED:
        return Check("memory", detail)
    return Check("memory", detail, f"close other programs, {_MEMORY_NEEDED / _GIB:.0f} GiB needed")


def _port(recipe: Recipe) -> Check:
    port, endpoint = recipe.endpoint.port, LocalEndpoint(recipe.endpoint.name)
    process = endpoint.process()
    if process:
        running = endpoint.url.rpartition(":")[2]
        detail = f"{running} is served by endpoint {endpoint.name} (pid {process.pid})"
        fix = (
            ""
            if running == str(port)
            else f"python -m setup stop, or --set endpoint.port={running}"
        )
        return Check("port", detail + (f", the recipe says {port}" if fix else ""), fix)
    try:
        refuse_held_port(port)
    except FixableError as error:
        return Check("port", error.what, error.fix)
    return Check("port", f"{port} is free")


def _model(recipe: Recipe) -> Check:
    path = model_path(recipe.model)
    if not path.is_file() and not is_kept_as_it_is(recipe.model):
        return Check("model", f"not fetched yet: {recipe.model.source}; deploy does it")
    try:
        verify_model(path)
    except FixableError as error:
        return Check("model", error.what, error.fix)
    return Check("model", str(path))


def _llama(_: Recipe) -> Check:
    try:
        module = importlib.import_module("xllamacpp")
    except ImportError as error:
        needs_openmp = "libgomp" in str(error)
        fix = (
            "apt-get install libgomp1"
            if needs_openmp
            else "pip install --no-deps -r requirements.txt"
        )
        return Check("llama.cpp", f"cannot be loaded: {error}", fix)
    return Check("llama.cpp", f"xllamacpp {module.__version__}")


def _keyring(_: Recipe) -> Check:
    try:
        return Check("keyring", check_keyring())
    except FixableError as error:
        return Check("keyring", error.what, error.fix)
