"""Which of two runs' answers a judge prefers, row by row, each pair shown in both orders.

What it finds belongs to the pair, so it is kept beside the candidate under the baseline's name, and
``compare``, ``report`` and ``gate`` read it from there as the metric ``judge_preferred``: 1 for a
win, 0 for a loss, a half where the judge calls a tie or names another side in each order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from evaluation.batch.journal import Journal, line_key, recall, write_lines
from evaluation.batch.outcome import Outcome
from evaluation.batch.pf_run import FlowRun, free_name
from evaluation.batch.watched import run_watched
from evaluation.compare.pairs import pair_rows
from evaluation.run.evaluators import FLOWS
from evaluation.run.judging import TEMPERATURE, WORKERS, JudgeConnection
from evaluation.runs import Row, RunFolder, Table, read_table
from flows.evaluate_with_judge.judge_material import ORDERS
from flows.evaluate_with_judge.judge_outputs import Line, outcomes
from setup.errors import FixableError
from setup.paths import read_json, write_private

METRIC = "judge_preferred"

_VALUES = {"win": 1.0, "loss": 0.0, "tie": 0.5, "disagreement": 0.5}
_TEXTS = ("question", "chat_history", "answer", "other_answer", "ground_truth")
_INPUTS = (*_TEXTS, "row_id", "repeat", "order", "judge_model", "judge_seed", "judge_temperature")
_FOUND = "preferences.json"


def prefer(
    baseline: RunFolder, candidate: RunFolder, judge: JudgeConnection, repeats: int = 1
) -> dict[str, float]:
    """Ask the judge about every row both runs answered; returns promptflow's metrics of that run.

    What was judged before an interruption is not judged again.

    Raises:
        FixableError: No row was answered in both runs, they asked something else, promptflow
            refused, or the judge failed on a line.
        Interrupted: Ctrl-C.
    """
    left, right = read_table(baseline), read_table(candidate)
    pair_rows(left, right)
    folder = _folder(baseline, candidate)
    lines = _lines(left, right, judge, repeats)
    if not lines:
        both = f"{baseline.name} and {candidate.name}"
        raise FixableError(f"no row has an answer in both {both}", "python -m evaluation list")
    folder.mkdir(exist_ok=True)
    data, journal = folder / "data.jsonl", Journal(folder / "verdicts.jsonl")
    write_lines(data, lines)
    keys = [line_key(line) for line in lines]
    known = recall(journal, keys)
    wanted = FlowRun(
        free_name(f"{candidate.name.replace('/', '-')}-preferred"),
        FLOWS / "evaluate_with_judge",
        data,
        {name: f"${{data.{name}}}" for name in _INPUTS},
        variant="${case.pairwise}",
        connections={"judge": judge.name},
    )

    def keep(outcome: Outcome) -> None:
        journal.append(replace(outcome, key=keys[outcome.line]))

    with journal.writing():
        total = len(lines) - len(known)
        again = "python -m setup doctor, then the same command"
        metrics = run_watched(wanted, "Judging pairs", total, WORKERS, known, [keep], again)
    verdicts = recall(journal, keys)
    found = {"judge": judge.model, "pf_run": wanted.name, "metrics": metrics}
    found |= {"answers": _digest(baseline, candidate), "rows": _preferences(lines, verdicts)}
    write_private(folder / _FOUND, found)
    if len(verdicts) < len(lines):
        raise FixableError(
            f"the judge failed on {len(lines) - len(verdicts)} of {len(lines)} lines",
            "the same command again: it asks those alone",
        )
    return metrics


def add_preferences(baseline: Table, candidate: Table) -> None:
    """Give both tables the metric ``judge_preferred`` where a judge has compared these runs."""
    found = read_json(_folder(baseline.run, candidate.run) / _FOUND)
    if found is None or found["answers"] != _digest(baseline.run, candidate.run):
        return
    for table, sign in ((baseline, -1.0), (candidate, 1.0)):
        values = np.array([found["rows"].get(name, np.nan) for name in table.ids], dtype=np.float64)
        table.scores[METRIC] = 0.5 + sign * (values - 0.5)


def _digest(*runs: RunFolder) -> str:
    """Of the answers that were judged: a run made anew under the same name has others."""
    digest = hashlib.sha256()
    for run in runs:
        digest.update(run.rows_path.read_bytes())
    return digest.hexdigest()


def _folder(baseline: RunFolder, candidate: RunFolder) -> Path:
    name = hashlib.sha256(baseline.name.encode()).hexdigest()[:12]
    return candidate.path / f"preferred-over-{name}"


def _lines(baseline: Table, candidate: Table, judge: JudgeConnection, repeats: int) -> list[Row]:
    others = {row["id"]: row for row in _answered(baseline)}
    shared: Row = {
        "judge_model": judge.model,
        "judge_temperature": TEMPERATURE if repeats > 1 else 0.0,
    }
    return [
        _texts(row, others[row["id"]]) | shared | {"repeat": n, "judge_seed": n, "order": order}
        for row in _answered(candidate)
        if row["id"] in others
        for n in range(repeats)
        for order in ORDERS
    ]


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


def _preferences(lines: Sequence[Row], found: Mapping[int, Outcome]) -> dict[str, float]:
    by_row: dict[str, list[Line]] = {}
    for number, line in enumerate(lines):
        outputs: dict[str, Any] | None = found[number].outputs if number in found else None
        if outputs is not None:
            judged = Line(line["row_id"], line["repeat"], line["order"], outputs)
            by_row.setdefault(line["row_id"], []).append(judged)
    results = {row: [_VALUES[name] for name in outcomes(judged)] for row, judged in by_row.items()}
    return {row: fmean(values) for row, values in results.items() if values}
