"""rows.csv: every row of both runs once, with all that was said; streamed, a row at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from io import TextIOWrapper
from typing import Any, BinaryIO

from evaluation.compare.preference import METRIC as PREFERRED
from evaluation.metrics import METRICS, within
from evaluation.report.side import Side
from evaluation.report.text import compact, csv_cell
from evaluation.results import Row

_SHARED = ["id", "line", "category", "question", "chat_history", "ground_truth", "facts"]
_OWN = ["answer", "error_type", "error_message", "reasons"]


def write_rows(file: BinaryIO, sides: Sequence[Side]) -> None:
    """Write the table as UTF-8 with a header: rows of the first side, then those it lacks.

    A side's columns are named ``baseline_answer``, ``candidate_fact_recall``; a single run's have
    no prefix. ``chat_history``, ``facts`` and ``reasons`` are JSON. Texts are as ``csv_cell``
    writes them; ids and numbers are as they are.
    """
    prefixes = ["baseline_", "candidate_"] if len(sides) == 2 else [""]
    occurring = {name for side in sides for name in side.table.scores} - {PREFERRED}
    metrics = [name for name in METRICS if name in occurring]
    own = [prefix + name for prefix in prefixes for name in [*_OWN, *metrics]]
    text = TextIOWrapper(file, encoding="utf-8", newline="", write_through=False)
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*_SHARED, "must_decline", *own])
    for rows in _together(sides):
        shared = next(row for row in rows if row is not None)
        cells = _shared(shared)
        for row in rows:
            cells += _own(row, metrics)
        table.writerow(cells)
    text.flush()
    text.detach()


def _together(sides: Sequence[Side]) -> Iterator[Sequence[Row | None]]:
    first, *others = (side.table for side in sides)
    for other in others:
        yield from zip(first.rows(), other.rows_of(first.ids), strict=True)
        left = (index for row_id, index in other.index.items() if row_id not in first.index)
        yield from ((None, row) for row in other.rows(left))
    if not others:
        yield from ([row] for row in first.rows())


def _shared(row: Row) -> list[Any]:
    inputs = row.get("inputs") or {}
    return [
        str(row["id"]).replace("\0", "\ufffd"),
        row.get("line", ""),
        _text(row.get("category")),
        _text(inputs.get("question")),
        _json(inputs.get("chat_history")),
        _text(row.get("ground_truth")),
        _json(row.get("facts")),
        _flag(row.get("must_decline")),
    ]


def _flag(value: bool | None) -> str:
    """Empty where the data does not say."""
    return "" if value is None else str(value).lower()


def _own(row: Row | None, metrics: list[str]) -> list[Any]:
    if row is None:
        return [""] * (len(_OWN) + len(metrics))
    error = row["error"]
    return [
        _text(row["answer"]),
        _text(error and error.kind),
        _text(error and error.line),
        _json(row.get("reasons")),
        *(_score(name, row["scores"].get(name)) for name in metrics),
    ]


def _score(name: str, value: float | None) -> float | None:
    return None if value is None else within(name, value)


def _text(value: Any) -> str:
    return "" if value is None else csv_cell(value if isinstance(value, str) else compact(value))


def _json(value: Any) -> str:
    return csv_cell(compact(value)) if value else ""
