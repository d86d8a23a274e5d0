"""The evaluation flows a run can end with: which folder, fed with what, and what comes of it.

A language model as judge is asked one line a repeat, and gives a score a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from evaluation.ask.journal import Outcome
from evaluation.failure import Failure
from evaluation.results import REPLIES, UNPARSED, Row
from setup.common.errors import FixableError
from setup.common.paths import REPOSITORY

FLOWS = REPOSITORY / "flows"
CHAT = FLOWS / "chat"
SAFETY_DATA = REPOSITORY / "data" / "safety" / "adversarial.jsonl"
JUDGES = {
    "judge": ("evaluate_with_judge", "judge"),
    "evals-judge": ("evaluate_with_evals_judge", "judges"),
}
_UNPARSED = ("judge_unparsed", "evals_unparsed", "azure_unparsed")
FAILED = "judge_failed"  # how many repeats of a line
JUDGE_WORKERS = 4
TEMPERATURE = 0.7  # repeats of a judge that always says the same would show no spread


@dataclass(frozen=True)
class Evaluator:
    """A flow that evaluates the lines of a chat run, line by line.

    ``columns`` maps its inputs to columns of the data, with ``usage`` of the answer as one more,
    and of the chat run's outputs; ``connections`` gives a node another connection than its own;
    ``workers`` is how many lines it works on at a time: one where it only computes.
    """

    name: str
    flow: Path
    columns: Mapping[str, str]
    workers: int = 1
    connections: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class JudgeEvaluator(Evaluator):
    """An evaluation flow around a judge: lines of its own, each ``repeats`` times."""

    repeats: int = 1

    @classmethod
    def make(cls, name: str, connection: str, model: str, repeats: int) -> JudgeEvaluator:
        """The evaluator ``name``, one of :data:`JUDGES`, judging through ``connection``."""
        folder, node = JUDGES[name]
        inputs = ["question", "answer", "ground_truth", "judge_model"]
        if name == "judge":
            inputs += ["row_id", "repeat", "chat_history", "judge_seed"]
            inputs += ["judge_temperature"] if repeats > 1 else []
        columns = {name: f"${{data.{name}}}" for name in inputs}
        settings = {"connection": connection, "model": model, "repeats": repeats}
        nodes = {node: connection}
        return cls(name, FLOWS / folder, columns, JUDGE_WORKERS, nodes, settings, repeats)

    def lines(self, rows: Sequence[Row], asked: Mapping[int, Outcome]) -> list[Row]:
        """``repeats`` lines for every answered row, each with its row's number as ``row``."""
        shared = {"judge_model": self.settings["model"]}
        if self.repeats > 1:
            shared |= {"judge_temperature": TEMPERATURE}
        return [
            {
                "row": number,
                "row_id": row["id"],
                "question": row["question"],
                "chat_history": row["chat_history"],
                "answer": (asked[number].outputs or {})["answer"],
                "ground_truth": row["ground_truth"],
                **shared,
                "repeat": repeat,
                "judge_seed": repeat,
            }
            for number, row in enumerate(rows)
            if asked[number].error is None
            for repeat in range(self.repeats)
        ]

    def collect(self, lines: Sequence[Row], outcomes: Mapping[int, Outcome]) -> dict[int, Outcome]:
        """Means over a row's repeats; a row whose every repeat failed keeps the last error."""
        by_row: dict[int, list[Outcome]] = {}
        for number, line in enumerate(lines):
            failed = Outcome(number, error=Failure("NotRun", "the judge was not asked"))
            by_row.setdefault(line["row"], []).append(outcomes.get(number, failed))
        return {row: _combine(row, repeats) for row, repeats in by_row.items()}


def _columns(*data: str) -> dict[str, str]:
    return {"answer": "${run.outputs.answer}"} | {name: f"${{data.{name}}}" for name in data}


COMPUTED = {
    name: Evaluator(name, FLOWS / f"evaluate_{name}", columns)
    for name, columns in {
        "answers": _columns("ground_truth", "facts", "must_decline", "usage"),
        "safety": _columns("question", "category", "canaries", "marks", "must_decline"),
    }.items()
}


def computed_evaluator(name: str) -> Evaluator:
    """The evaluator ``name``, one that needs no model."""
    if name not in COMPUTED:
        names = ", ".join([*COMPUTED, *JUDGES])
        raise FixableError(f"no evaluator {name!r}", f"--evaluator with one of: {names}")
    return COMPUTED[name]


def missing_verdicts(line: Outcome) -> int:
    """Count the replies of a judge to a line that are no verdict."""
    outputs = line.outputs or {}
    return sum(int(outputs.get(name) or 0) for name in _UNPARSED)


def _replies_of(line: Outcome) -> int:
    """Count the replies of a judge to a line: one, or one of each judge."""
    outputs = line.outputs or {}
    if "evals_unparsed" not in outputs:
        return int("judge_unparsed" in outputs)
    grades = sum(v is not None for name, v in outputs.items() if name not in _UNPARSED)
    return grades + missing_verdicts(line)


def _combine(row: int, repeats: Sequence[Outcome]) -> Outcome:
    judged = [outcome.outputs for outcome in repeats if outcome.outputs is not None]
    if not judged:
        return replace(repeats[-1], line=row)
    combined: dict[str, Any] = {}
    # Null in all of them: columns of a package whose judges were not asked.
    others = tuple(n.partition("_")[0] for n in _UNPARSED if all(j.get(n) is None for j in judged))
    for name in judged[0]:
        if not name.endswith(("_reason", "_unparsed")) and not name.startswith(others):
            values = [line[name] for line in judged if isinstance(line.get(name), int | float)]
            combined[name] = fmean(values) if values else None
    # Of a reply that is no verdict it is the text, which says more than another repeat's reason.
    told = sorted(judged, key=lambda line: not line.get("judge_unparsed"))
    reasons = (line["judge_reason"] for line in told if line.get("judge_reason"))
    combined["judge_reason"] = next(reasons, "")
    combined[REPLIES] = sum(map(_replies_of, repeats))
    combined[UNPARSED] = sum(map(missing_verdicts, repeats))
    combined[FAILED] = sum(outcome.error is not None for outcome in repeats)
    return Outcome(row, combined)
