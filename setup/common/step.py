"""A step of the path and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

R = TypeVar("R")  # the recipe of a target


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
class Step(Generic[R]):
    """A verb of the path: ``plan`` says what ``run`` would do, and changes nothing."""

    name: str
    help: str
    plan: Callable[[R], list[str]]
    run: Callable[[R], Result]
