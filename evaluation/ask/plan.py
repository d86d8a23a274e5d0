"""The plan of a run: everything that decides its numbers, resolved before row 1."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluation.ask.connections import KnownConnection
from evaluation.ask.evaluators import CHAT, Evaluator
from evaluation.ask.rows_in import RunData
from evaluation.results.folder import CONFIG
from evaluation.results.request import FILE
from setup.common.errors import FixableError
from setup.common.flow_folder import hash_flow
from setup.common.paths import REPOSITORY, read_json, runs_folder
from setup.local.control import LocalEndpoint
from setup.local.rollout import rolled_out
from setup.recipe.local import Recipe

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
        """The folder that keeps the run."""
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


_PACKAGES = ("promptflow", "promptflow-tools", "promptflow-evals", "sacrebleu", "xllamacpp")


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that the scores depend on, and of Python."""
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version()} | versions


def served_model(recipe: Recipe, configs: dict[str, str]) -> dict[str, Any]:
    """Which model answers behind a connection, as far as this machine knows.

    ``version`` is the registered version where the connection asks the tuned deployment of the
    recipe's own endpoint; for every other endpoint only what the connection says.
    """
    named = configs.get("deployment") or configs.get("model") or ""
    endpoint = LocalEndpoint(recipe)
    if endpoint.process() is None or not configs["endpoint"].startswith(f"{endpoint.url}/"):
        return {"deployment": named}
    deployments = endpoint.manage("GET")["deployments"]
    shares = {name: row["traffic"] for name, row in deployments.items()}
    named = named or max(shares, key=lambda name: shares[name])
    file = Path(deployments[named]["model_path"]).name if named in deployments else ""
    version = rolled_out(endpoint) if named == recipe.endpoint.tuned else ""
    model = {"deployment": named, "file": file, "source": recipe.model.source}
    return model | ({"registered": recipe.registry.model, "version": version} if version else {})
