"""The plan of a run: everything that decides its numbers, resolved before row 1."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluation import results
from evaluation.ask.connections import KnownConnection
from evaluation.ask.evaluators import CHAT, Evaluator
from evaluation.ask.general import Questions
from evaluation.ask.rows_in import RunData
from evaluation.engines.flow_run import Engine
from evaluation.engines.graph import Graph
from setup.common.errors import FixableError
from setup.common.flow_folder import hash_flow
from setup.common.paths import REPOSITORY, read_json, runs_folder, write_private
from setup.recipe.local import Recipe

_DECIDES = ["engine", "connection", "configs", "data", "column_mapping", "flows", "variant"]
_DECIDES += ["evaluators", "limit", "seed", "recipe", "model", "general"]
_PACKAGES = ["promptflow", "promptflow-tools", "promptflow-evals", "azure-ai-evaluation"]
_PACKAGES += ["sacrebleu", "xllamacpp"]


@dataclass(frozen=True)
class Plan:
    """One run: one connection asked the rows of one data file, evaluated by some flows.

    ``general`` are the general questions that are asked as well.
    """

    name: str
    connection: KnownConnection
    data: RunData
    evaluators: tuple[Evaluator, ...]
    recipe: Recipe
    request: results.Request
    engine: Engine
    general: Questions | None = None

    @property
    def workers(self) -> int:
        """The number of questions in flight at a time."""
        return self.request.workers or self.connection.settings.concurrency

    @property
    def folder(self) -> Path:
        """The folder that keeps the run."""
        return runs_folder() / self.name / self.connection.name

    def config(self) -> dict[str, Any]:
        """The whole plan as config.json keeps it; no secret is in it."""
        used = [CHAT, *self.engine.folders, *(flow.flow for flow in self.evaluators)]
        return {
            "name": f"{self.name}/{self.connection.name}",
            "connection": self.connection.name,
            "configs": self.connection.configs,
            "data": {
                "path": _portable(self.data.path),
                "sha256": self.data.sha256,
                "rows": len(self.data.rows),
            },
            "general": self.general
            and {
                "path": _portable(self.general.path),
                "sha256": self.general.sha256,
                "rows": len(self.general.rows),
            },
            "notes": list(self.data.notes),
            "column_mapping": dict(self.data.mapping),
            "flows": {folder.name: hash_flow(folder) for folder in used},
            "variant": self.request.variant,
            "answer_limit": _answer_limit(self.request.variant),
            "evaluators": {flow.name: dict(flow.settings) for flow in self.evaluators},
            "limit": self.request.limit,
            "seed": self.request.seed,
            "workers": self.workers,
            "engine": self.engine.name,
            "recipe": json.loads(self.recipe.model_dump_json(exclude={"evaluation"})),
            "model": self.connection.served_model(self.recipe),
            "versions": {"python": platform.python_version(), **_versions()},
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def note_reused(self, taken: dict[str, int]) -> None:
        """Say in config.json how many answers are those of which run."""
        config = read_json(self.folder / results.CONFIG) or {}
        write_private(self.folder / results.CONFIG, config | {"reused": taken})

    @property
    def is_begun(self) -> bool:
        """True where the folder has a run to go on with."""
        return (self.folder / results.CONFIG).is_file()

    def begin(self, mode: results.Mode) -> None:
        """Write config.json; going on, see that it would be the same."""
        config = self.config()
        if mode == "new":
            write_private(self.folder / results.CONFIG, config)
            return
        before = read_json(self.folder / results.CONFIG)
        if before is None:
            fix = "leave --resume and --retry-errors out to start it"
            raise FixableError(f"no run in {self.folder} to go on with", fix)
        # Runs from before there was such a value.
        new = {"column_mapping": {}, "engine": "promptflow", "general": config["general"]}
        before = new | before
        changed = [key for key in _DECIDES if before.get(key) != config[key]]
        if changed:
            own = f"--engine {before['engine']}" if "engine" in changed else "restore them"
            raise FixableError(
                f"run {config['name']} was started with other values of {', '.join(changed)} "
                f"({_first_difference(before.get(changed[0]), config[changed[0]])})",
                f"{own}, or start a new run with another --name",
            )


def _answer_limit(variant: str) -> int | None:
    """The tokens after which the chat flow cuts an answer; None where its graph does not say."""
    try:
        nodes = Graph.read(CHAT, variant).nodes
    except FixableError:  # a flow that somebody rewrote, which promptflow may read all the same
        return None
    limits = [node.literals.get("max_new_tokens") for node in nodes]
    return next((limit for limit in limits if isinstance(limit, int)), None)


def _versions() -> dict[str, str]:
    """The packages that decide numbers, as far as they are installed."""
    versions = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def _portable(path: Path) -> str:
    """From the repository where it is in it: the same on every machine."""
    whole = path.absolute()
    inside = whole.is_relative_to(REPOSITORY)
    return (whole.relative_to(REPOSITORY) if inside else whole).as_posix()


def _first_difference(before: Any, after: Any) -> str:
    if isinstance(before, dict) and isinstance(after, dict):
        key = next(k for k in [*before, *after] if before.get(k) != after.get(k))
        return f"{key}: {_first_difference(before.get(key), after.get(key))}"
    return f"{_short(before)}, now {_short(after)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
