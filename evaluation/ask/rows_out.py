"""The content of a run's folder in the end: its rows and its summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.ask.rows_in import Row
from evaluation.batch.journal import Outcome
from evaluation.metrics import METRICS
from evaluation.results.folder import NOT_EVALUATED, REPLIES, UNPARSED

FAILED = "judge_failed"  # how many repeats of a line
_FLOW_COLUMNS = ("ground_truth", "facts", "must_decline", "category")


@dataclass(frozen=True)
class Evaluated:
    """The result of an evaluation flow: an outcome for each answered line, and its metrics."""

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
    for result in evaluated if asked.error is None else ():
        _add_scores(content, result.name, result.lines.get(line))
    return content


def missing_verdicts(line: Outcome) -> int:
    """Count the replies of a judge to a line that are no verdict."""
    outputs = line.outputs or {}
    return sum(int(outputs.get(name) or 0) for name in ("judge_unparsed", "evals_unparsed"))


def replies_of(line: Outcome) -> int:
    """Count the replies of a judge to a line: one, or one of each judge."""
    outputs = line.outputs or {}
    if "evals_unparsed" not in outputs:
        return int("judge_unparsed" in outputs)
    grades = sum(v is not None for name, v in outputs.items() if name != "evals_unparsed")
    return grades + missing_verdicts(line)


def _add_scores(content: dict[str, Any], evaluator: str, outcome: Outcome | None) -> None:
    if outcome is None or outcome.error:
        why = (
            f"{outcome.error.type}: {outcome.error.message}"
            if outcome and outcome.error
            else "not run"
        )
        content["reasons"][evaluator] = f"{NOT_EVALUATED}{why}"
        return
    outputs = outcome.outputs or {}
    for name, value in {**outputs, **outputs.get("scores", {})}.items():
        if name in {"scores", FAILED}:
            continue
        if name in {REPLIES, UNPARSED}:
            content[name] = content.get(name, 0) + value
        elif name in METRICS:
            content["scores"][name] = value
        elif value not in (None, ""):
            content["reasons"][name] = value


def _has_failed(outcome: Outcome | None) -> bool:
    return outcome is None or outcome.error is not None or bool((outcome.outputs or {}).get(FAILED))


def summarise(
    outcomes: Mapping[int, Outcome],
    evaluated: Sequence[Evaluated],
    pf_runs: Mapping[str, str],
    workers: int,
) -> dict[str, Any]:
    """The counts first, then the metrics exactly as promptflow aggregated them.

    ``unscored`` counts answers that an evaluation flow failed on, in one repeat or all,
    ``no_verdict`` the others of which a judge said something that is no verdict; ``scored`` how
    many have a score, by metric.
    """
    failed = sum(outcome.error is not None for outcome in outcomes.values())
    answered = len(outcomes) - failed
    unscored = {
        line
        for result in evaluated
        for line, outcome in outcomes.items()
        if outcome.error is None and _has_failed(result.lines.get(line))
    }
    lines = [(n, o.outputs or {}) for result in evaluated for n, o in result.lines.items()]
    silent = {line for line, outputs in lines if outputs.get(UNPARSED)}
    scored = Counter(
        name
        for _, outputs in lines
        for name, value in {**outputs, **outputs.get("scores", {})}.items()
        if name in METRICS and value is not None
    )
    return {
        "n": len(outcomes),
        "ok": answered,
        "error": failed,
        "unscored": len(unscored),
        "no_verdict": len(silent - unscored),
        "scored": dict(scored),
        "metrics": {name: value for result in evaluated for name, value in result.metrics.items()},
        "pf_runs": dict(pf_runs),
        "workers": workers,
    }
