"""Rows to read: the biggest wins and losses, or the lowest scores of a single run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.metrics import METRICS, Metric
from evaluation.report.side import Side
from evaluation.report.text import Excerpt, excerpt, one_line
from evaluation.results import Row
from evaluation.wording import digits_for, number

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


def examples(sides: Sequence[Side], ids: Sequence[str], metric: Metric) -> list[Example]:
    """The rows with these ids, in this order; those that a side does not have are left out."""
    rows = zip(*(side.table.rows_of(ids) for side in sides), strict=True)
    return [_example(sides, list(same), metric) for same in rows if None not in same]


def lowest(side: Side, metric: Metric) -> list[str]:
    """Ids of the rows that scored worst on ``metric``, at most ``AT_MOST``; ties in their order."""
    column = side.table.scores[metric.name]
    scored = np.flatnonzero(np.isfinite(column))
    worth = column[scored] * (-1 if metric.better == "lower" else 1)
    order = scored[np.argsort(worth, kind="stable")][:AT_MOST]
    return [side.table.ids[index] for index in order]


def _example(sides: Sequence[Side], rows: Sequence[Any], metric: Metric) -> Example:
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


def _answer(side: Side, row: Row) -> Answer:
    error = row["error"]
    text = f"{error.kind}: {error.line}" if error else row["answer"]
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
    return f"{' → '.join(texts)} ({number(last - first, digits, metric.unit, signs=True)})"


def _scores(rows: Sequence[Row]) -> list[tuple[str, list[str]]]:
    table = []
    for name, metric in METRICS.items():
        values = [row["scores"].get(name) for row in rows]
        if any(value is not None for value in values):
            digits = digits_for(metric) if metric.scale or metric.unit else 0
            table.append((metric.label, [number(value, digits, metric.unit) for value in values]))
    return table
