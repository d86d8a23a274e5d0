"""The numbers of a run, read once: what compare, gate and report share."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from evaluation import metrics
from evaluation.compare import statistics
from evaluation.compare.statistics import Estimate
from evaluation.failure import Failure
from evaluation.results import REPLIES, UNPARSED, Row, RunFolder
from setup.common.errors import FixableError


@dataclass(frozen=True)
class Table:
    """The numbers of a run, a column for each metric; texts are read anew from the file.

    ``scores`` has the metrics that occur, as float64 of one value a row, NaN where a row has none;
    ``offsets`` are the rows' positions in rows.jsonl, in bytes. ``replies`` is how many replies of
    a judge each row has, ``unparsed`` how many of them are no verdict. ``seed`` and ``resamples``
    are of the bootstrap. ``general`` are the general questions, rows of a file of their own; their
    metric is among ``estimates``, of the other numbers they are no part.
    """

    run: RunFolder
    ids: list[str]
    failed: NDArray[np.bool_]
    scores: dict[str, NDArray[np.float64]]
    offsets: NDArray[np.int64]
    replies: NDArray[np.int64]
    unparsed: NDArray[np.int64]
    seed: int = 0
    resamples: int = 2000
    path: Path | None = None
    general: Table | None = None

    @cached_property
    def estimates(self) -> dict[str, Estimate]:
        """The mean or share of every metric over the rows that have it, in the order of METRICS."""
        names = names_in(self)
        columns = {
            name: self.scores[name]
            for name in names
            if not only_shares(metrics.METRICS[name], self.scores[name])
        }
        drawn = statistics.mean_estimates(
            list(columns.values()), seed=self.seed, resamples=self.resamples
        )
        means = dict(zip(columns, drawn, strict=True))
        own = {name: self._estimate(name, means.get(name)) for name in names}
        return own | (self.general.estimates if self.general else {})

    def _estimate(self, name: str, mean: Estimate | None) -> Estimate:
        if mean is None:
            return statistics.rate_estimate(self.scores[name])
        return possible(mean, metrics.METRICS[name].lowest, metrics.METRICS[name].scale)

    @property
    def n(self) -> int:
        """All rows."""
        return len(self.ids)

    @property
    def answered(self) -> int:
        """The number of rows that have an answer."""
        return int(np.count_nonzero(~self.failed))

    @property
    def unscored(self) -> int:
        """The number of answers that an evaluation failed on."""
        return int(self.run.summary.get("unscored", 0))

    @property
    def no_verdict(self) -> int:
        """The number of answers of which a judge said something that is no verdict."""
        return int(np.count_nonzero(self.unparsed))

    @property
    def counts(self) -> dict[str, int]:
        """The rows by how they ended; what seldom happens only where it did."""
        rare = {"unscored": self.unscored, "no_verdict": self.no_verdict}
        common = {"n": self.n, "ok": self.answered, "error": self.n - self.answered}
        return common | {name: count for name, count in rare.items() if count}

    @property
    def scored(self) -> dict[str, int]:
        """The number of rows that have a score, by metric."""
        return {name: int(np.count_nonzero(~np.isnan(v))) for name, v in self.scores.items()}

    @property
    def deciding(self) -> str:
        """The metric that decides about this run by itself; empty where none can."""
        counts = {name: estimate.n for name, estimate in self.estimates.items()}
        return metrics.deciding_metric(counts, self.answered)

    @cached_property
    def index(self) -> dict[str, int]:
        """The position of the row of each id."""
        return {row_id: index for index, row_id in enumerate(self.ids)}

    def values(self, metric: str) -> NDArray[np.float64]:
        """Return what rows scored on ``metric``, without those that have no number."""
        if self.general and metric == metrics.GENERAL:
            return self.general.values(metric)
        column = self.scores.get(metric)
        return np.empty(0) if column is None else column[np.isfinite(column)]

    def failed_ids(self) -> list[str]:
        """The ids of the rows that have no answer."""
        return [self.ids[index] for index in np.flatnonzero(self.failed)]

    def rows(self, indices: Iterable[int] | None = None) -> Iterator[Row]:
        """The rows at ``indices``, in that order; all of them where none are named."""
        with (self.path or self.run.rows_path).open("rb") as file:
            for index in range(self.n) if indices is None else indices:
                file.seek(int(self.offsets[index]))
                row: Row = orjson.loads(file.readline())
                yield row | {"error": Failure.from_dict(row["error"])}

    def rows_of(self, ids: Iterable[str]) -> Iterator[Row | None]:
        """The rows of these ids, None for those that the run does not have."""
        places = [self.index.get(row_id) for row_id in ids]
        rows = self.rows(place for place in places if place is not None)
        yield from (None if place is None else next(rows) for place in places)


def read_table(run: RunFolder, *, seed: int = 0, resamples: int = 2000) -> Table:
    """The numbers of ``run``, read row by row."""
    table = _read(run, run.rows_path, seed, resamples)
    if not run.general_path.is_file():
        return table
    return replace(table, general=_read(run, run.general_path, seed, resamples))


def _read(run: RunFolder, path: Path, seed: int, resamples: int) -> Table:
    ids: list[str] = []
    failed, offsets, position = array("b"), array("q"), 0
    judged: dict[str, array[int]] = {REPLIES: array("q"), UNPARSED: array("q")}
    columns: dict[str, array[float]] = {}
    for line, row in _lines(run, path):
        for name, value in row["scores"].items():
            column = columns.setdefault(name, array("d"))
            _fill(column, len(ids))
            column.append(math.nan if value is None else metrics.within(name, float(value)))
        ids.append(str(row["id"]))
        failed.append(row["error"] is not None)
        for name, numbers in judged.items():
            numbers.append(int(row.get(name, 0)))
        offsets.append(position)
        position += len(line)
    for column in columns.values():
        _fill(column, len(ids))
    scores = {name: np.asarray(column, dtype=np.float64) for name, column in columns.items()}
    return Table(
        run,
        ids,
        np.asarray(failed, dtype=bool),
        scores,
        np.asarray(offsets, np.int64),
        np.asarray(judged[REPLIES], np.int64),
        np.asarray(judged[UNPARSED], np.int64),
        seed,
        resamples,
        path,
    )


def _fill(column: array[float], length: int) -> None:
    column.extend([math.nan] * (length - len(column)))


def _lines(run: RunFolder, path: Path) -> Iterator[tuple[bytes, Row]]:
    fix = f"python -m evaluation run --resume --name {run.path.parent.name}"
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = orjson.loads(line)
                except orjson.JSONDecodeError:
                    row = None
                if not isinstance(row, dict) or not {"id", "error", "scores"} <= row.keys():
                    raise FixableError(f"{path}:{number} is not a row of a run", fix)
                yield line, row
    except OSError as error:
        raise FixableError(f"{path}: {error.strerror}", fix) from None


def names_in(*tables: Table) -> list[str]:
    """The metrics that occur in ``tables``, in the order of METRICS."""
    occurring = {name for table in tables for name in table.scores}
    for name in sorted(occurring):
        metrics.known_metric(name)
    return [name for name in metrics.METRICS if name in occurring]


def only_shares(metric: metrics.Metric, *columns: NDArray[np.float64]) -> bool:
    """Tell whether the scores are all 0 or 1, of a metric that ends there.

    Its name does not decide: recall of one fact a row is a share of rows as well.
    """
    shares = (np.isnan(column) | (column == 0.0) | (column == 1.0) for column in columns)
    return metric.scale == 1.0 and all(bool(np.all(share)) for share in shares)


def possible(estimate: Estimate, lowest: float | None, highest: float | None) -> Estimate:
    """``estimate`` with an interval that ends where the values end: no mean of counts is negative.

    What is cut off holds no true value, so the interval covers as often as before.
    """
    if estimate.low is None or estimate.high is None:
        return estimate
    low = estimate.low if lowest is None else max(estimate.low, lowest)
    high = estimate.high if highest is None else min(estimate.high, highest)
    return replace(estimate, low=low, high=high)
