"""A finding of the doctor, and those about this Python and its packages."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from packaging.requirements import Requirement

from setup.common.errors import FixableError, name_recipe
from setup.common.paths import REPOSITORY
from setup.common.promptflow_store import is_promptflow_installed

_PYTHON = (3, 11), (3, 13)


@dataclass(frozen=True)
class Check:
    """One finding: ``detail`` says what was looked at, ``fix`` is empty when all is well."""

    name: str
    detail: str
    fix: str = ""

    @classmethod
    def of(cls, name: str, look: Callable[[], str]) -> Check:
        """Make a finding of what ``look`` says, or of the FixableError that it raises."""
        try:
            return cls(name, look())
        except FixableError as error:
            return cls(name, error.what, error.fix)

    @property
    def ok(self) -> bool:
        """Tell whether nothing has to be done."""
        return not self.fix

    def named(self, options: str) -> Check:
        """Return it with the ``options`` that name the recipe in its commands."""
        detail, fix = name_recipe(self.detail, options), name_recipe(self.fix, options)
        return Check(self.name, detail, fix)

    def line(self) -> str:
        """For people; the fix in a line of its own."""
        if self.ok:
            return f"ok    {self.name}: {self.detail}"
        return f"FAIL  {self.name}: {self.detail}\n      fix: {self.fix}"

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {**asdict(self), "ok": self.ok}


def environment_checks() -> Iterator[Check]:
    """Check the needs of every target: this Python, and the packages."""
    yield _python()
    yield _packages()


def _python() -> Check:
    low, high = _PYTHON
    version = ".".join(str(part) for part in sys.version_info[:3])
    if low <= sys.version_info[:2] <= high:
        return Check("python", version)
    supported = f"{low[0]}.{low[1]} to {high[0]}.{high[1]}"
    return Check("python", f"{version}, prompt flow needs {supported}", f"use Python {supported}")


def _packages() -> Check:
    if not is_promptflow_installed():
        return _without_promptflow()
    if wrong := unmet("requirements.in"):
        fix = f"{sys.executable} -m pip install --no-deps -r requirements.txt"
        return Check("packages", "; ".join(wrong), fix)
    return Check("packages", "as requirements.in names them")


def _without_promptflow() -> Check:
    """Engine plain runs the flows then; who wants promptflow is told how to get it."""
    wrong = [
        problem for problem in unmet("requirements.in") if not problem.startswith("promptflow")
    ]
    if wrong := [*wrong, *unmet("requirements-exit.in")]:
        install = f"{sys.executable} -m pip install --no-deps -r"
        fix = f"{install} requirements.txt, which brings promptflow; without it: make exit"
        return Check("packages", "; ".join(wrong), fix)
    return Check("packages", "all but promptflow, without which engine plain runs the flows")


def unmet(file: str) -> list[str]:
    """List what is missing or of another version than a file of requirements names."""
    lines = (REPOSITORY / file).read_text(encoding="utf-8").splitlines()
    needs = (requirement for line in lines if (requirement := line.split("#")[0].strip()))
    return [problem for need in needs if (problem := _unmet(Requirement(need)))]


def _unmet(need: Requirement) -> str:
    if need.marker and not need.marker.evaluate():
        return ""
    try:
        installed = importlib.metadata.version(need.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{need.name} is missing"
    met = need.specifier.contains(installed, prereleases=True)
    return "" if met else f"{need.name} is {installed}, not {need.specifier}"
