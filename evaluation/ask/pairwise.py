"""A judge's choice between the answers of two runs, row by row, each pair shown in both orders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from evaluation.ask import evaluators
from evaluation.ask.journal import Journal, Outcome
from evaluation.ask.judge import JudgeConnection
from evaluation.compare import preference
from evaluation.compare.compare import pair_rows
from evaluation.compare.table import Table
from evaluation.engines.flow_run import FlowRun
from flows.evaluate_with_judge.judging.material import BASELINE_FIRST, CANDIDATE_FIRST, ORDERS
from flows.evaluate_with_judge.judging.outputs import Line, outcomes
from setup.common.console import shorten
from setup.common.errors import FixableError

Row = dict[str, Any]

_VALUES = {"win": 1.0, "loss": 0.0, "tie": 0.5, "disagreement": 0.5}
_AGAIN = "python -m setup doctor, then the same command"
_TEXTS = ("question", "chat_history", "answer", "other_answer", "ground_truth")
_INPUTS = (*_TEXTS, "row_id", "repeat", "order", "judge_model", "judge_seed", "judge_temperature")


@dataclass(frozen=True)
class Preferences:
    """The judging in numbers: ``replies``, those ``unparsed``, and what the first such says.

    ``decided`` is how many rows have a verdict in both orders.
    """

    replies: int
    unparsed: int
    said: str
    decided: int

    @property
    def primary(self) -> str:
        """The metric that a comparison is decided by; "" where no row has a verdict."""
        return preference.METRIC if self.decided else ""

    @property
    def unparsed_share(self) -> float:
        """Of the replies."""
        return self.unparsed / self.replies if self.replies else 0.0

    def __str__(self) -> str:
        first = f', the first "{shorten(self.said)}"' if self.said else ""
        return f"{self.unparsed:,} of {self.replies:,} replies of the judge were no verdict{first}"


def prefer(
    runs: Sequence[Table], judge: JudgeConnection, repeats: int = 1, *, retry: bool = False
) -> Preferences:
    """Ask the judge about every row that both ``runs`` answered, and keep what it prefers.

    The baseline is the first of them. What was judged before an interruption is not judged again;
    with ``retry``, replies that were no verdict are asked for again.

    Raises:
        FixableError: The runs cannot be paired, or the judge failed on a line.
        Interrupted: Ctrl-C.
    """
    baseline, candidate = (table.run for table in runs)
    lines = _lines(runs[0], runs[1], judge, repeats)
    folder = preference.record_folder(baseline, candidate)
    folder.mkdir(exist_ok=True)
    engine = judge.engine
    flow_run = FlowRun(
        engine.free_name(f"{candidate.name.replace('/', '-')}-preferred"),
        evaluators.FLOWS / "evaluate_with_judge",
        folder / "data.jsonl",
        {name: f"${{data.{name}}}" for name in _INPUTS},
        variant="${case.pairwise}",
        connections={"judge": judge.name},
    )
    view = ("Judging pairs", evaluators.JUDGE_WORKERS, _AGAIN)
    journal = Journal(folder / "verdicts.jsonl")
    outcomes, metrics = engine.judge_lines(flow_run, lines, journal, view, retry)
    verdicts = {number: each for number, each in outcomes.items() if each.error is None}
    record: dict[str, Any] = {"judge": judge.model, "engine": engine.name, "metrics": metrics}
    record |= {"pf_run": flow_run.name} if engine.keeps_runs else {}
    preferred = _preferences(lines, verdicts)
    unparsed = [outcome for outcome in verdicts.values() if evaluators.missing_verdicts(outcome)]
    said = str((unparsed[0].outputs or {}).get("judge_reason", "")) if unparsed else ""
    result = Preferences(len(verdicts), len(unparsed), said, len(preferred))
    notes = [str(result)] if unparsed else []
    record |= {"rows": preferred, "notes": notes + _by_place(lines, verdicts)}
    preference.save_record(baseline, candidate, record)
    if len(verdicts) < len(lines):
        raise FixableError(
            f"the judge failed on {len(lines) - len(verdicts)} of {len(lines)} lines",
            "the same command again: it asks those alone",
        )
    return result


def _lines(baseline: Table, candidate: Table, judge: JudgeConnection, repeats: int) -> list[Row]:
    pair_rows(baseline, candidate)
    others = {row["id"]: row for row in _answered(baseline)}
    shared: Row = {
        "judge": judge.name,
        "judge_model": judge.model,
        "judge_temperature": evaluators.TEMPERATURE if repeats > 1 else 0.0,
    }
    lines = [
        _texts(row, others[row["id"]]) | shared | {"repeat": n, "judge_seed": n, "order": order}
        for row in _answered(candidate)
        if row["id"] in others
        for n in range(repeats)
        for order in ORDERS
    ]
    if not lines:
        both = f"{baseline.run.name} and {candidate.run.name}"
        raise FixableError(f"no row has an answer in both {both}", "python -m evaluation list")
    return lines


def _answered(table: Table) -> list[Row]:
    return list(table.rows(np.flatnonzero(~table.failed)))


def _texts(row: Row, other: Row) -> Row:
    return {
        "row_id": row["id"],
        **row["inputs"],
        "answer": row["answer"],
        "other_answer": other["answer"],
        "ground_truth": row["ground_truth"],
    }


def _by_place(lines: Sequence[Row], verdicts: Mapping[int, Outcome]) -> list[str]:
    """Sentences on a judge that names what it is shown first, or second, whatever it is."""
    pairs: dict[tuple[str, int], dict[str, str]] = {}
    for number, outcome in verdicts.items():
        line, better = lines[number], (outcome.outputs or {}).get("judge_better")
        if better:
            pairs.setdefault((line["row_id"], line["repeat"]), {})[line["order"]] = better
    both = [pair for pair in pairs.values() if len(pair) == len(ORDERS)]
    named = Counter((pair[BASELINE_FIRST], pair[CANDIDATE_FIRST]) for pair in both)
    places = {
        "first": named["baseline", "candidate"],
        "second": named["candidate", "baseline"],
    }
    return [
        f"the judge named the answer shown {place} in both orders of {count:,} of {len(both):,} "
        "pairs: it went by the place, and they count as ties"
        for place, count in places.items()
        if count
    ]


def _preferences(lines: Sequence[Row], verdicts: Mapping[int, Outcome]) -> dict[str, float]:
    by_row: dict[str, list[Line]] = {}
    for number, line in enumerate(lines):
        outputs: dict[str, Any] | None = verdicts[number].outputs if number in verdicts else None
        if outputs is not None:
            judged = Line(line["row_id"], line["repeat"], line["order"], outputs)
            by_row.setdefault(line["row_id"], []).append(judged)
    results = {row: [_VALUES[name] for name in outcomes(judged)] for row, judged in by_row.items()}
    return {row: fmean(values) for row, values in results.items() if values}
