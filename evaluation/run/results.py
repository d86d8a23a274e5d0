"""What a run's folder says in the end: its rows and its summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.batch.outcome import Outcome
from evaluation.metrics import METRICS
from evaluation.run.data import Row

_FLOW_COLUMNS = ("ground_truth", "facts", "must_decline", "category")


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation flow found: an outcome for each answered line, and its metrics."""

    name: str
    lines: Mapping[int, Outcome]
    metrics: Mapping[str, float]


def as_row(line: int, row: Row, asked: Outcome, evaluated: Sequence[Evaluated]) -> dict[str, Any]:
    """The row as rows.jsonl has it; a failed one keeps its error and has no score."""
    outputs = asked.outputs or {}
    content: dict[str, Any] = {
        "id": row["id"],
        "line": line,
        "inputs": {"question": row["question"], "chat_history": row["chat_history"]},
        **{column: row[column] for column in _FLOW_COLUMNS},
        "answer": outputs.get("answer"),
        "error": asked.error and {"type": asked.error.type, "message": asked.error.message},
        "scores": {},
        "reasons": {},
    }
    for found in evaluated if asked.error is None else ():
        _add_scores(content, found.name, found.lines.get(line))
    return content


def _add_scores(content: dict[str, Any], evaluator: str, found: Outcome | None) -> None:
    if found is None or found.error:
        why = f"{found.error.type}: {found.error.message}" if found and found.error else "not run"
        content["reasons"][evaluator] = f"not evaluated: {why}"
        return
    outputs = found.outputs or {}
    for name, value in {**outputs, **outputs.get("scores", {})}.items():
        if name == "scores":
            continue
        if name in METRICS:
            content["scores"][name] = value
        elif value not in (None, ""):
            content["reasons"][name] = value


def summarise(
    outcomes: Mapping[int, Outcome],
    evaluated: Sequence[Evaluated],
    pf_runs: Mapping[str, str],
    workers: int,
) -> dict[str, Any]:
    """The counts first, then the metrics exactly as promptflow aggregated them.

    ``unscored`` counts answers that an evaluation flow failed on.
    """
    failed = sum(outcome.error is not None for outcome in outcomes.values())
    answered = len(outcomes) - failed
    unscored = {
        line
        for found in evaluated
        for line, outcome in outcomes.items()
        if outcome.error is None and (line not in found.lines or found.lines[line].error)
    }
    return {
        "n": len(outcomes),
        "ok": answered,
        "error": failed,
        "unscored": len(unscored),
        "metrics": {name: value for found in evaluated for name, value in found.metrics.items()},
        "pf_runs": dict(pf_runs),
        "workers": workers,
    }
