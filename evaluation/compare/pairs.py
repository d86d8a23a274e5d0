"""The rows that two runs share, by id, and whether they may be compared at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.compare.notes import same_data
from evaluation.compare.table import Table
from evaluation.results import Row
from setup.common.errors import FixableError

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """The shared rows of two runs, in the baseline's order: their ids and where each has them."""

    ids: list[str]
    in_baseline: Indices
    in_candidate: Indices
    only_baseline: list[str]
    only_candidate: list[str]


def pair_rows(baseline: Table, candidate: Table) -> Pairs:
    """Pair the rows of two runs by id.

    Raises:
        FixableError: An id stands twice in a run, no id is in both, or a row that both have asks
            or expects something else in each.
    """
    for table in (baseline, candidate):
        _refuse_twice(table)
    left, right = baseline.index, candidate.index
    ids = [row_id for row_id in left if row_id in right]
    names = f"{baseline.run.name} and {candidate.run.name}"
    if not ids:
        raise FixableError(f"{names} have no row in common", "compare runs of the same data file")
    pairs = Pairs(
        ids,
        np.array([left[row_id] for row_id in ids], dtype=np.int64),
        np.array([right[row_id] for row_id in ids], dtype=np.int64),
        [row_id for row_id in left if row_id not in right],
        [row_id for row_id in right if row_id not in left],
    )
    if not same_data(baseline.run, candidate.run):
        _refuse_other_rows(baseline.rows(pairs.in_baseline), candidate.rows(pairs.in_candidate))
    return pairs


def _refuse_twice(table: Table) -> None:
    if len(table.index) < len(table.ids):
        twice = next(row for index, row in enumerate(table.ids) if table.index[row] != index)
        raise FixableError(
            f"{table.run.rows_path} has the row {twice!r} twice",
            "give the rows of the data file ids of their own and run again",
        )


def _refuse_other_rows(baseline: Iterable[Row], candidate: Iterable[Row]) -> None:
    """Ids may be line numbers, which pair anything with anything."""
    for left, right in zip(baseline, candidate, strict=True):
        for part in ("inputs", "ground_truth", "facts", "must_decline"):
            # Not to say whether declining is due expects nothing else than to say that it is not.
            if (left.get(part) or None) != (right.get(part) or None):
                raise FixableError(
                    f"row {left['id']!r} has other {part.replace('_', ' ')} in each run",
                    "compare runs of the same data file",
                )
