"""The search for runs: by name, by folder, or the newest."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluation.metrics import METRICS, deciding_metric
from evaluation.results.folder import CONFIG, RunFolder, open_run
from evaluation.results.request import FILE, load_request
from setup.common.errors import FixableError
from setup.common.paths import read_json, runs_folder

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_START = "python -m evaluation run"


def new_name() -> str:
    """A name for a run nobody named."""
    return f"eval-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def check_name(name: str, what: str = "--name") -> str:
    """``name``, of ``what``, unless it could not be a folder.

    Raises:
        FixableError: It has other characters.
    """
    if not _NAME.fullmatch(name):
        raise FixableError(
            f"{what} {name!r} is no name for a folder",
            "letters, digits and . _ - only, at most 64",
        )
    return name


def latest_name() -> str:
    """The run that was started last.

    Raises:
        FixableError: There is none.
    """
    paths = [path for path in runs_folder().glob(f"*/{FILE}") if path.is_file()]
    if not paths:
        raise FixableError(f"no run in {runs_folder()}", _START)
    return max(paths, key=lambda path: path.stat().st_mtime).parent.name


def sides_of(name: str) -> list[str]:
    """The connections of the run ``name``, in the order they were asked: the baseline first.

    Raises:
        FixableError: There is no such run.
    """
    load_request(name)
    paths = sorted((runs_folder() / name).glob(f"*/{CONFIG}"), key=_started)
    return [path.parent.name for path in paths]


def open_sides(references: list[str]) -> list[RunFolder]:
    """The finished runs named, or the sides of the newest run.

    A reference is a folder, NAME/CONNECTION, or NAME for all sides of a run.

    Raises:
        FixableError: One of them is missing or not finished.
    """
    folders: list[RunFolder] = []
    for reference in references or [latest_name()]:
        folders += [open_run(side) for side in _sides_named(reference)]
    return folders


def _sides_named(reference: str) -> list[str]:
    path = Path(reference)
    if (path / FILE).is_file() and path.absolute().parent == runs_folder().absolute():
        reference = path.name
    if (path / CONFIG).is_file() or len(Path(reference).parts) > 1:
        return [Path(reference).as_posix()]
    return [f"{reference}/{side}" for side in sides_of(reference)]


def list_sides() -> list[dict[str, Any]]:
    """Every side of every run, newest run first, finished or not."""
    sides = []
    for path in sorted(runs_folder().glob(f"*/*/{CONFIG}"), key=_started, reverse=True):
        config, summary = read_json(path) or {}, read_json(path.parent / "summary.json")
        name = f"{path.parent.parent.name}/{path.parent.name}"
        sides.append({"name": name, "started": config.get("started"), "summary": summary})
    return sides


def deciding_score(summary: dict[str, Any]) -> str:
    """The metric that decides about a run and its mean, as ``F1 0.91``; a dash where none can."""
    name = deciding_metric(summary.get("scored", {}), summary["ok"])
    mean = summary.get("metrics", {}).get(name)
    return "-" if mean is None else f"{METRICS[name].label} {mean:.2f}"


def _started(path: Path) -> str:
    return str((read_json(path) or {}).get("started", ""))
