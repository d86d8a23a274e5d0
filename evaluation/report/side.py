"""The runs of a report, and what to call them."""

from __future__ import annotations

from typing import NamedTuple

from evaluation.compare.comparison import Comparison
from evaluation.compare.table import Table
from evaluation.report.text import one_line


class Side(NamedTuple):
    """A run and its numbers: ``key`` is its class in the page, ``a`` the baseline, ``b`` the other.

    ``label`` is the connection where that tells the runs apart, else the run's whole name;
    it can be shown as it is.
    """

    key: str
    label: str
    table: Table


def sides_of(content: Comparison | Table) -> list[Side]:
    """Both runs of a comparison, the baseline first, or the only run."""
    if isinstance(content, Table):
        return [Side("b", one_line(content.run.path.name), content)]
    runs = [table.run for table in content.tables]
    same = len({run.path.name for run in runs}) == 1
    labels = [one_line(run.name if same else run.path.name) for run in runs]
    if labels[0] == labels[1]:
        labels = ["baseline", "candidate"]
    return [Side(*side) for side in zip("ab", labels, content.tables, strict=True)]
