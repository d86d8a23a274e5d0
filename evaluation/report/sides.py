"""The one or two runs of a report, as its other parts read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from evaluation.compare.compare import side_of
from evaluation.report.text import one_line
from evaluation.runs import Row, RunFolder, Table, read_table


@dataclass
class ReportSide:
    """A run and its numbers: ``key`` is its class in the page, ``a`` the baseline, ``b`` the other.

    ``label`` is the connection where that tells the runs apart, else the run's whole name;
    it can be shown as it is.
    """

    key: str
    label: str
    run: RunFolder
    table: Table

    @cached_property
    def index(self) -> dict[str, int]:
        """Where the row of an id stands."""
        return {row_id: index for index, row_id in enumerate(self.table.ids)}

    @property
    def n(self) -> int:
        """All rows."""
        return len(self.table.ids)

    @property
    def error(self) -> int:
        """Rows that failed."""
        return int(np.count_nonzero(self.table.failed))

    @property
    def ok(self) -> int:
        """Rows that were answered."""
        return self.n - self.error

    @property
    def counts(self) -> dict[str, int]:
        """The rows by how they ended."""
        return side_of(self.table).counts

    def row(self, row_id: str) -> Row | None:
        """The row of that id, read anew; None where this run has none."""
        index = self.index.get(row_id)
        return None if index is None else next(self.table.rows([index]))

    def values(self, metric: str) -> NDArray[np.float64]:
        """What rows scored on ``metric``, without those that have no number."""
        column = self.table.scores.get(metric)
        return np.empty(0) if column is None else column[np.isfinite(column)]

    def rows(self) -> Iterator[Row]:
        """Every row, in order."""
        return self.table.rows(range(self.n))


def two_sides(baseline: RunFolder, candidate: RunFolder) -> tuple[ReportSide, ReportSide]:
    """Both runs of a comparison, the baseline first."""
    same = baseline.path.name == candidate.path.name
    labels = [one_line(run.name if same else run.path.name) for run in (baseline, candidate)]
    if labels[0] == labels[1]:
        labels = ["baseline", "candidate"]
    return (
        ReportSide("a", labels[0], baseline, read_table(baseline)),
        ReportSide("b", labels[1], candidate, read_table(candidate)),
    )


def one_side(run: RunFolder) -> ReportSide:
    """A run that is compared with none."""
    return ReportSide("b", one_line(run.path.name), run, read_table(run))
