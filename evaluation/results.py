"""A run is a folder: config.json, rows.jsonl with every row once, summary.json written last.

Here it is named, found and opened; beside its sides run.json keeps what it was asked for, so that
going on with it needs no option again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from setup.common.errors import FixableError
from setup.common.paths import read_json, runs_folder, write_private
from setup.recipe.load import DEFAULT

CONFIG, ROWS, SUMMARY, REQUEST = "config.json", "rows.jsonl", "summary.json", "run.json"
GENERAL = "general.jsonl"
NOT_EVALUATED = "not evaluated: "  # how the reason of a row begins that an evaluation failed on
REPLIES, UNPARSED = "judge_replies", "judge_unparsed"  # of a row

Row = dict[str, Any]
Mode = Literal["new", "resume", "retry"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LIST = "python -m evaluation list"


class Request(BaseModel):
    """The options of ``python -m evaluation run``; empty and None mean the default found later.

    ``connections`` are asked in this order, the first is the baseline of the comparison. ``judge``
    is a connection to a model that judges every answer ``judge_repeats`` times; ``workers`` is how
    many questions are in flight, 0 what the endpoint takes; ``engine`` runs the flows, the
    recipe's where it is empty. ``general`` is whether the general questions are asked as well:
    unless it is said, they are, but for a run of safety alone. ``reuse`` takes the answers that
    earlier runs have of the same model, asked in the same way, instead of asking again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    connections: tuple[str, ...] = ()
    recipe: str = DEFAULT
    sets: tuple[str, ...] = ()
    data: Path | None = None
    column_mapping: tuple[str, ...] = ()
    evaluators: tuple[str, ...] = ("answers",)
    limit: int | None = None
    seed: int = 0
    variant: str = ""
    workers: int = 0
    engine: str = ""
    processes: int = 1
    judge: str = "judge"
    judge_model: str = ""
    judge_repeats: int = 1
    force_judge: bool = False
    general: bool | None = None
    reuse: bool = False

    @property
    def asks_general(self) -> bool:
        """True where the general questions are asked beside the data."""
        return set(self.evaluators) != {"safety"} if self.general is None else self.general

    def save(self, name: str) -> None:
        """Keep it as run.json of the run ``name``."""
        write_private(runs_folder() / name / REQUEST, self.model_dump(mode="json"))

    @classmethod
    def load(cls, name: str, changes: Mapping[str, Any] | None = None) -> Request:
        """The request of the run ``name``, with ``changes`` in its place.

        A value that would make it another run is refused later, by name.
        """
        try:
            request = cls.model_validate(read_json(runs_folder() / name / REQUEST))
        except ValidationError:
            raise FixableError(f"no run {name} in {runs_folder()}", _LIST) from None
        return request.model_copy(update=dict(changes or {}))


@dataclass(frozen=True)
class RunFolder:
    """One finished run: one connection asked one data file, and the answers evaluated."""

    path: Path
    config: dict[str, Any]
    summary: dict[str, Any]

    @property
    def name(self) -> str:
        """As the command line takes it: NAME/CONNECTION."""
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def rows_path(self) -> Path:
        """One JSON object for each row of the data, in its order."""
        return self.path / ROWS

    @property
    def general_path(self) -> Path:
        """The general questions as rows; no file where they were not asked."""
        return self.path / GENERAL


def new_name() -> str:
    """A name for a run nobody named."""
    return f"eval-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def check_name(name: str, what: str = "--name") -> None:
    """Refuse a ``name``, of ``what``, that could not be a folder."""
    if not _NAME.fullmatch(name):
        fix = "letters, digits and . _ - only, at most 64"
        raise FixableError(f"{what} {name!r} is no name for a folder", fix)


def refuse_existing(name: str) -> None:
    """Refuse to begin a run under the name of another."""
    folder = runs_folder() / name
    if (folder / REQUEST).is_file():
        raise FixableError(
            f"run {name} is in {folder} already",
            "give another --name, or go on with it: --resume or --retry-errors",
        )


def latest_name() -> str:
    """The run that was started last."""
    paths = [path for path in runs_folder().glob(f"*/{REQUEST}") if path.is_file()]
    if not paths:
        raise FixableError(f"no run in {runs_folder()}", "python -m evaluation run")
    return max(paths, key=lambda path: path.stat().st_mtime).parent.name


def open_run(reference: str | Path) -> RunFolder:
    """The finished run ``reference``: a folder, or NAME/CONNECTION of the runs folder."""
    path = Path(reference)
    if not (path / CONFIG).is_file():
        path = runs_folder() / reference
    config, summary = read_json(path / CONFIG), read_json(path / SUMMARY)
    if config is None:
        raise FixableError(f"no run {reference} in {runs_folder()}", _LIST)
    if summary is None:
        resume = f"python -m evaluation run --resume --name {path.parent.name}"
        raise FixableError(f"run {reference} in {path} is not finished", resume)
    return RunFolder(path.absolute(), config, summary)


def open_sides(references: list[str], count: int = 0) -> list[RunFolder]:
    """The finished runs named, or the sides of the newest run; ``count`` of them where not 0.

    A reference is a folder, NAME/CONNECTION, or NAME for all sides of a run, the baseline first.
    """
    named = [side for each in references or [latest_name()] for side in _sides_named(each)]
    sides = [open_run(side) for side in named]
    if count and len(sides) != count:
        names = ", ".join(side.name for side in sides)
        raise FixableError(f"{count} runs can be compared, not {len(sides)} ({names})", "name two")
    return sides


def _sides_named(reference: str) -> list[str]:
    path = Path(reference)
    if (path / REQUEST).is_file() and path.absolute().parent == runs_folder().absolute():
        reference = path.name
    if (path / CONFIG).is_file() or len(Path(reference).parts) > 1:
        return [Path(reference).as_posix()]
    Request.load(reference)
    paths = sorted((runs_folder() / reference).glob(f"*/{CONFIG}"), key=_started)
    return [f"{reference}/{path.parent.name}" for path in paths]


def list_sides() -> list[dict[str, Any]]:
    """Every side of every run, newest run first, finished or not."""
    sides = []
    for path in sorted(runs_folder().glob(f"*/*/{CONFIG}"), key=_started, reverse=True):
        name = f"{path.parent.parent.name}/{path.parent.name}"
        summary = read_json(path.parent / SUMMARY)
        sides.append({"name": name, "started": _started(path) or None, "summary": summary})
    return sides


def _started(path: Path) -> str:
    return str((read_json(path) or {}).get("started", ""))
