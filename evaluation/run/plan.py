"""What a run is going to be: everything that decides its numbers, resolved before row 1."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluation.run.connections import KnownConnection
from evaluation.run.data import RunData
from evaluation.run.evaluators import CHAT, Evaluator
from evaluation.run.provenance import hash_flow, package_versions, served_model
from evaluation.run.request import FILE
from evaluation.runs import CONFIG
from setup.errors import FixableError
from setup.paths import REPOSITORY, read_json, runs_folder
from setup.recipe import Recipe

_DECIDES = (
    "connection",
    "configs",
    "data",
    "column_mapping",
    "flows",
    "variant",
    "evaluators",
    "limit",
    "seed",
    "recipe",
    "model",
)


@dataclass(frozen=True)
class Plan:
    """One run: one connection asked the rows of one data file, evaluated by some flows.

    ``workers`` is how many questions are in flight at a time.
    """

    name: str
    connection: KnownConnection
    data: RunData
    evaluators: tuple[Evaluator, ...]
    recipe: Recipe
    limit: int | None = None
    seed: int = 0
    variant: str = ""
    workers: int = 4

    @property
    def folder(self) -> Path:
        """Where the run is kept."""
        return runs_folder() / self.name / self.connection.name

    def config(self) -> dict[str, Any]:
        """The whole plan as config.json keeps it; no secret is in it."""
        flows = {CHAT.name: CHAT} | {flow.flow.name: flow.flow for flow in self.evaluators}
        return {
            "name": f"{self.name}/{self.connection.name}",
            "connection": self.connection.name,
            "configs": self.connection.configs,
            "data": {
                "path": _portable(self.data.path),
                "sha256": self.data.sha256,
                "rows": len(self.data.rows),
            },
            "notes": list(self.data.notes),
            "column_mapping": dict(self.data.mapping),
            "flows": {name: hash_flow(folder) for name, folder in flows.items()},
            "variant": self.variant,
            "evaluators": {flow.name: dict(flow.settings) for flow in self.evaluators},
            "limit": self.limit,
            "seed": self.seed,
            "workers": self.workers,
            "recipe": json.loads(self.recipe.model_dump_json()),
            "model": served_model(self.recipe, self.connection.configs),
            "versions": package_versions(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def _portable(path: Path) -> str:
    """From the repository where it is in it: the same on every machine."""
    whole = path.absolute()
    inside = whole.is_relative_to(REPOSITORY)
    return (whole.relative_to(REPOSITORY) if inside else whole).as_posix()


def refuse_existing(name: str) -> None:
    """Raise FixableError when there is a run of this name: it is gone on with, or left alone."""
    folder = runs_folder() / name
    if (folder / FILE).is_file():
        raise FixableError(
            f"run {name} is in {folder} already",
            "give another --name, or go on with it: --resume or --retry-errors",
        )


def refuse_changes(folder: Path, config: dict[str, Any]) -> None:
    """Refuse to go on with a run whose data, model, flow or recipe is another one by now.

    Raises:
        FixableError: Naming what has changed, or that there is no run to go on with.
    """
    before = read_json(folder / CONFIG)
    if before is None:
        fix = "leave --resume and --retry-errors out to start it"
        raise FixableError(f"no run in {folder} to go on with", fix)
    before = {"column_mapping": {}} | before  # runs from before there was one
    changed = [key for key in _DECIDES if before.get(key) != config[key]]
    if changed:
        raise FixableError(
            f"run {config['name']} was started with other values of {', '.join(changed)} "
            f"({_first_difference(before.get(changed[0]), config[changed[0]])})",
            "restore them, or start a new run with another --name",
        )


def _first_difference(before: Any, after: Any) -> str:
    if isinstance(before, dict) and isinstance(after, dict):
        key = next(k for k in [*before, *after] if before.get(k) != after.get(k))
        return f"{key}: {_first_difference(before.get(key), after.get(key))}"
    return f"{_short(before)}, now {_short(after)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
