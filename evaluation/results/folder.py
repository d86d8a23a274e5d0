"""A run is a folder: config.json, rows.jsonl with every row once, summary.json written last."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
from numpy.typing import NDArray

from evaluation.metrics import within
from setup.common.errors import FixableError
from setup.common.paths import read_json, runs_folder

CONFIG, ROWS, SUMMARY = "config.json", "rows.jsonl", "summary.json"
NOT_EVALUATED = "not evaluated: "  # how the reason of a row begins that an evaluation failed on
REPLIES, UNPARSED = "judge_replies", "judge_unparsed"  # of a row

Row = dict[str, Any]


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


@dataclass(frozen=True)
class Table:
    """The numbers of a run, a column for each metric; texts are read anew from the file.

    ``scores`` has the metrics that occur, as float64 of one value a row, NaN where a row has none;
    ``offsets`` are the rows' positions in rows.jsonl, in bytes. ``replies`` is how many replies of
    a judge each row has, ``unparsed`` how many of them are no verdict.
    """

    run: RunFolder
    ids: list[str]
    failed: NDArray[np.bool_]
    scores: dict[str, NDArray[np.float64]]
    offsets: NDArray[np.int64]
    replies: NDArray[np.int64]
    unparsed: NDArray[np.int64]

    @property
    def answered(self) -> int:
        """The number of rows that have an answer."""
        return int(np.count_nonzero(~self.failed))

    def counts(self) -> dict[str, int]:
        """The number of rows that have a score, by metric."""
        return {name: int(np.count_nonzero(~np.isnan(v))) for name, v in self.scores.items()}

    def rows(self, indices: Iterable[int]) -> Iterator[Row]:
        """The rows at ``indices``, in that order."""
        with self.run.rows_path.open("rb") as file:
            for index in indices:
                file.seek(int(self.offsets[index]))
                yield orjson.loads(file.readline())


def open_run(reference: str | Path) -> RunFolder:
    """The finished run ``reference``: a folder, or NAME/CONNECTION of the runs folder.

    Raises:
        FixableError: There is none, or it was not finished.
    """
    path = Path(reference)
    if not (path / CONFIG).is_file():
        path = runs_folder() / reference
    config, summary = read_json(path / CONFIG), read_json(path / SUMMARY)
    if config is None:
        raise FixableError(f"no run {reference} in {runs_folder()}", "python -m evaluation list")
    if summary is None:
        resume = f"python -m evaluation run --resume --name {path.parent.name}"
        raise FixableError(f"run {reference} in {path} is not finished", resume)
    return RunFolder(path.absolute(), config, summary)


def read_table(run: RunFolder) -> Table:
    """The numbers of ``run``, read row by row.

    Raises:
        FixableError: A line of rows.jsonl is not one of ours.
    """
    ids: list[str] = []
    failed, offsets = array("b"), array("q")
    judged: dict[str, array[int]] = {REPLIES: array("q"), UNPARSED: array("q")}
    columns: dict[str, array[float]] = {}
    position = 0
    with _open_rows(run) as file:
        for line in file:
            row = _parse(line, run, len(ids))
            for name, value in row["scores"].items():
                column = columns.setdefault(name, array("d"))
                _fill(column, len(ids))
                column.append(math.nan if value is None else within(name, float(value)))
            ids.append(str(row["id"]))
            failed.append(row["error"] is not None)
            for name, numbers in judged.items():
                numbers.append(int(row.get(name, 0)))
            offsets.append(position)
            position += len(line)
    for column in columns.values():
        _fill(column, len(ids))
    scores = {name: np.asarray(column, dtype=np.float64) for name, column in columns.items()}
    whole = (np.asarray(numbers, np.int64) for numbers in (offsets, *judged.values()))
    return Table(run, ids, np.asarray(failed, dtype=bool), scores, *whole)


def _open_rows(run: RunFolder) -> BinaryIO:
    try:
        return run.rows_path.open("rb")
    except OSError as error:
        raise _damaged(run, f"{run.rows_path}: {error.strerror}") from None


def _damaged(run: RunFolder, what: str) -> FixableError:
    return FixableError(what, f"python -m evaluation run --resume --name {run.path.parent.name}")


def _fill(column: array[float], length: int) -> None:
    column.extend([math.nan] * (length - len(column)))


def _parse(line: bytes, run: RunFolder, number: int) -> Row:
    try:
        row: Row = orjson.loads(line)
        if {"id", "error", "scores"} <= row.keys():
            return row
    except (orjson.JSONDecodeError, AttributeError):
        pass
    raise _damaged(run, f"{run.rows_path}:{number + 1} is not a row of a run")
