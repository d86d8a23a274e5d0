"""A target, the steps of its path, and what came of a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, Generic, Protocol, TypeVar

from setup.common.checks import Check

S = TypeVar("S")  # the session of a target


@dataclass(frozen=True)
class Result:
    """The result of a step: ``changed`` is False when its work was done before."""

    step: str
    changed: bool
    detail: str
    next: str

    def line(self) -> str:
        """For people."""
        return f"{self.step}: {self.detail}" + ("" if self.changed else " (unchanged)")

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"ok": True, **asdict(self)}


@dataclass(frozen=True)
class Step(Generic[S]):
    """A verb of the path: ``plan`` says what ``run`` would do, and changes nothing."""

    name: str
    help: str
    plan: Callable[[S], list[str]]
    run: Callable[[S], Result]


class Target(Protocol):
    """A place where the path can be gone: a module of its folder, such as ``setup/local/steps.py``.

    ``session`` opens what all steps of one command share, for as long as its block runs, and says
    what stays when Ctrl-C ends it; ``yes`` answers what would be asked about money.
    """

    STEPS: list[Step[Any]]

    def session(self, recipe: Any, yes: bool = False, /) -> AbstractContextManager[Any]:
        """Open the session of ``recipe``."""

    def doctor(self, session: Any) -> Iterator[Check]:
        """Find what would fail later."""


class OperatedEndpoint(Protocol):
    """A deployed endpoint as its commands see it, wherever it runs.

    Each method raises FixableError where the endpoint refuses, or a deployment is not there.
    """

    def status(self) -> dict[str, Any]:
        """Say what there is: ``running``, ``healthy``, ``url``, and a row for each deployment."""

    def log_lines(self, count: int, follow: bool, deployment: str = "") -> Iterator[str]:
        """The last ``count`` lines of its log or of a deployment's, then new ones."""

    def set_traffic(self, shares: Mapping[str, int]) -> None:
        """Share the requests so, in per cent."""

    def set_mirror(self, shares: Mapping[str, int]) -> None:
        """Send deployments copies of so many per cent of the requests."""

    def delete(self, deployment: str) -> None:
        """Remove a deployment that takes no traffic."""
