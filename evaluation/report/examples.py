"""Rows to read: the biggest wins and losses, or the lowest scores of a single run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.compare.compare import side_of
from evaluation.metrics import METRICS, Metric
from evaluation.report.text import Excerpt, excerpt, one_line
from evaluation.report.wording import digits_for, number, signed
from evaluation.results.folder import Row, RunFolder, Table, read_table

_TURNS = 6
_FACTS = 20
AT_MOST = 20


@dataclass(frozen=True)
class Answer:
    """A side's reply to a question: an answer or an error, and why the judge scored it so."""

    key: str
    label: str
    text: Excerpt
    failed: bool
    reasons: list[tuple[str, Excerpt]]


@dataclass(frozen=True)
class Example:
    """One row. ``change`` is the primary metric's; ``scores`` are (label, a text for each side)."""

    id: str
    line: str
    category: str
    change: str
    history_left_out: int
    history: list[tuple[Excerpt, Excerpt]]
    question: Excerpt
    ground_truth: Excerpt
    facts: list[str]
    must_decline: bool
    answers: list[Answer]
    scores: list[tuple[str, list[str]]]


def examples(sides: Sequence[ReportSide], ids: Sequence[str], metric: Metric) -> list[Example]:
    """The rows with these ids, in this order; those that a side does not have are left out."""
    shown = []
    for row_id in ids:
        rows = [row for side in sides if (row := side.row(row_id)) is not None]
        if len(rows) == len(sides):
            shown.append(_example(sides, rows, metric))
    return shown


def lowest(side: ReportSide, metric: Metric) -> list[str]:
    """Ids of the rows that scored worst on ``metric``, at most ``AT_MOST``; ties in their order."""
    column = side.table.scores[metric.name]
    scored = np.flatnonzero(np.isfinite(column))
    worth = column[scored] * (-1 if metric.better == "lower" else 1)
    order = scored[np.argsort(worth, kind="stable")][:AT_MOST]
    return [side.table.ids[index] for index in order]


def _example(sides: Sequence[ReportSide], rows: list[Row], metric: Metric) -> Example:
    row = rows[-1]
    inputs = row.get("inputs") or {}
    history = inputs.get("chat_history") or []
    facts = row.get("facts") or []
    more = [f"and {len(facts) - _FACTS} more"] if len(facts) > _FACTS else []
    return Example(
        id=one_line(str(row["id"])),
        line=str(row.get("line", "")),
        category=one_line(str(row.get("category") or "")),
        change=_change(metric, [side_row["scores"].get(metric.name) for side_row in rows]),
        history_left_out=max(len(history) - _TURNS, 0),
        history=[_turn(turn) for turn in history[-_TURNS:]],
        question=excerpt(inputs.get("question", "")),
        ground_truth=excerpt(row.get("ground_truth") or ""),
        facts=[one_line(str(fact)) for fact in facts[:_FACTS]] + more,
        must_decline=bool(row.get("must_decline")),
        answers=[_answer(side, side_row) for side, side_row in zip(sides, rows, strict=True)],
        scores=_scores(rows),
    )


def _turn(turn: Any) -> tuple[Excerpt, Excerpt]:
    question = (turn.get("inputs") or {}).get("question", "")
    return excerpt(question), excerpt((turn.get("outputs") or {}).get("answer", ""))


def _answer(side: ReportSide, row: Row) -> Answer:
    error = row["error"]
    text = f"{error['type']}: {error['message']}" if error else row["answer"]
    reasons = [
        (one_line(str(name)), excerpt(reason))
        for name, reason in (row.get("reasons") or {}).items()
        if reason and isinstance(reason, str)
    ]
    return Answer(side.key, side.label, excerpt(text), bool(error), reasons)


def _change(metric: Metric, values: list[float | None]) -> str:
    digits = digits_for(metric)
    texts = [number(value, digits, metric.unit) for value in values]
    first, last = values[0], values[-1]
    if len(values) == 1 or first is None or last is None:
        return " → ".join(texts)
    return f"{' → '.join(texts)} ({signed(last - first, digits, metric.unit)})"


def _scores(rows: list[Row]) -> list[tuple[str, list[str]]]:
    table = []
    for name, metric in METRICS.items():
        values = [row["scores"].get(name) for row in rows]
        if any(value is not None for value in values):
            digits = digits_for(metric) if metric.scale else 0 if not metric.unit else 2
            table.append((metric.label, [number(value, digits, metric.unit) for value in values]))
    return table


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
        """The position of the row of each id."""
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
        """Return what rows scored on ``metric``, without those that have no number."""
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
