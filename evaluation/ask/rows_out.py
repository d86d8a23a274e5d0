"""The content of a run's folder in the end: its rows and its summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.ask.evaluators import FAILED
from evaluation.ask.journal import Outcome
from evaluation.metrics import METRICS
from evaluation.results import NOT_EVALUATED, REPLIES, UNPARSED, Row

_FLOW_COLUMNS = ("ground_truth", "facts", "must_decline", "category")


@dataclass(frozen=True)
class Evaluated:
    """The result of an evaluation flow: an outcome for each answered line, and its metrics."""

    name: str
    lines: Mapping[int, Outcome]
    metrics: Mapping[str, float]

    def has_failed_on(self, line: int) -> bool:
        """True where the flow failed on the line, in one repeat or all."""
        outcome = self.lines.get(line)
        return outcome is None or bool(outcome.error or (outcome.outputs or {}).get(FAILED))


def as_row(line: int, row: Row, asked: Outcome, evaluated: Sequence[Evaluated]) -> Row:
    """The row as rows.jsonl has it; a failed one keeps its error and has no score."""
    outputs = asked.outputs or {}
    content: Row = {
        "id": row["id"],
        "line": line,
        "inputs": {"question": row["question"], "chat_history": row["chat_history"]},
        **{column: row[column] for column in _FLOW_COLUMNS},
        "answer": outputs.get("answer"),
        "error": asked.error and asked.error.as_dict(),
        "scores": {},
        "reasons": {},
    }
    for result in evaluated if asked.error is None else ():
        _add_scores(content, result.name, result.lines.get(line))
    return content


def _add_scores(content: Row, evaluator: str, outcome: Outcome | None) -> None:
    if outcome is None or outcome.error:
        why = (
            f"{outcome.error.kind}: {outcome.error.line}"
            if outcome and outcome.error
            else "not run"
        )
        content["reasons"][evaluator] = f"{NOT_EVALUATED}{why}"
        return
    for name, value in _values(outcome).items():
        if name in {REPLIES, UNPARSED}:
            content[name] = content.get(name, 0) + value
        elif name in METRICS:
            content["scores"][name] = value
        elif name not in {"scores", FAILED} and value not in (None, ""):
            content["reasons"][name] = value


def _values(outcome: Outcome) -> dict[str, Any]:
    outputs = outcome.outputs or {}
    return {**outputs, **outputs.get("scores", {})}


def summarise(outcomes: Mapping[int, Outcome], evaluated: Sequence[Evaluated]) -> dict[str, Any]:
    """The counts first, then the metrics exactly as promptflow aggregated them.

    ``unscored`` counts answers that an evaluation flow failed on, in one repeat or all,
    ``no_verdict`` the others of which a judge said something that is no verdict; ``scored`` how
    many have a score, by metric.
    """
    answered = [line for line, outcome in outcomes.items() if outcome.error is None]
    unscored = {n for result in evaluated for n in answered if result.has_failed_on(n)}
    lines = [(n, _values(o)) for result in evaluated for n, o in result.lines.items()]
    silent = {line for line, values in lines if values.get(UNPARSED)}
    scored = Counter(
        name
        for _, values in lines
        for name, value in values.items()
        if name in METRICS and value is not None
    )
    return {
        "n": len(outcomes),
        "ok": len(answered),
        "error": len(outcomes) - len(answered),
        "unscored": len(unscored),
        "no_verdict": len(silent - unscored),
        "scored": dict(scored),
        "metrics": {name: value for result in evaluated for name, value in result.metrics.items()},
    }
