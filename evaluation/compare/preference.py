"""Which of two runs' answers a judge prefers, row by row, each pair shown in both orders.

What it finds belongs to the pair, so it is kept beside the candidate under the baseline's name, and
``compare``, ``report`` and ``gate`` read it from there as the metric ``judge_preferred``: 1 for a
win, 0 for a loss, a half where the judge calls a tie or names another side in each order.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from evaluation.ask.evaluators import FLOWS
from evaluation.ask.judging import TEMPERATURE, WORKERS, JudgeConnection
from evaluation.ask.rows_out import missing_verdicts
from evaluation.batch.journal import Journal, Outcome, line_key, recall, write_lines
from evaluation.batch.pf_run import FlowRun, free_name
from evaluation.batch.watch import run_watched
from evaluation.compare.pairs import pair_rows
from evaluation.results.folder import Row, RunFolder, Table, read_table
from flows.evaluate_with_judge.judging.material import BASELINE_FIRST, CANDIDATE_FIRST, ORDERS
from flows.evaluate_with_judge.judging.outputs import Line, outcomes
from setup.common.console import shorten
from setup.common.errors import FixableError
from setup.common.paths import read_json, write_private

METRIC = "judge_preferred"

_VALUES = {"win": 1.0, "loss": 0.0, "tie": 0.5, "disagreement": 0.5}
_TEXTS = ("question", "chat_history", "answer", "other_answer", "ground_truth")
_INPUTS = (*_TEXTS, "row_id", "repeat", "order", "judge_model", "judge_seed", "judge_temperature")
_FOUND = "preferences.json"


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
    def unparsed_share(self) -> float:
        """Of the replies."""
        return self.unparsed / self.replies if self.replies else 0.0

    def __str__(self) -> str:
        first = f', the first "{shorten(self.said)}"' if self.said else ""
        return f"{self.unparsed:,} of {self.replies:,} replies of the judge were no verdict{first}"


def prefer(
    baseline: RunFolder,
    candidate: RunFolder,
    judge: JudgeConnection,
    repeats: int = 1,
    *,
    retry: bool = False,
) -> Preferences:
    """Ask the judge about every row both runs answered, and keep what it prefers.

    What was judged before an interruption is not judged again; with ``retry``, replies that were no
    verdict are asked for again.

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
    if retry:
        known = {line: o for line, o in known.items() if not missing_verdicts(o)}
    flow_run = FlowRun(
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
        metrics = run_watched(flow_run, "Judging pairs", total, WORKERS, known, [keep], again)
    verdicts = recall(journal, keys)
    preferred = _preferences(lines, verdicts)
    result = _result(verdicts, len(preferred))
    record = {"judge": judge.model, "pf_run": flow_run.name, "metrics": metrics}
    record |= {"answers": _digest(baseline, candidate), "rows": preferred}
    record |= {"notes": _notes(result, lines, verdicts)}
    write_private(folder / _FOUND, record)
    if len(verdicts) < len(lines):
        raise FixableError(
            f"the judge failed on {len(lines) - len(verdicts)} of {len(lines)} lines",
            "the same command again: it asks those alone",
        )
    return result


def add_preferences(baseline: Table, candidate: Table) -> list[str]:
    """Give both tables the metric ``judge_preferred`` where a judge has compared these runs.

    Returns sentences on how the judge went about it.
    """
    record = read_json(_folder(baseline.run, candidate.run) / _FOUND)
    if record is None or record["answers"] != _digest(baseline.run, candidate.run):
        return []
    for table, sign in ((baseline, -1.0), (candidate, 1.0)):
        values = np.array(
            [record["rows"].get(name, np.nan) for name in table.ids], dtype=np.float64
        )
        table.scores[METRIC] = 0.5 + sign * (values - 0.5)
    return list(record.get("notes", []))


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
        "judge": judge.name,
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


def _result(verdicts: Mapping[int, Outcome], decided: int) -> Preferences:
    unparsed = [outcome for outcome in verdicts.values() if missing_verdicts(outcome)]
    said = str((unparsed[0].outputs or {}).get("judge_reason", "")) if unparsed else ""
    return Preferences(len(verdicts), len(unparsed), said, decided)


def _notes(result: Preferences, lines: Sequence[Row], verdicts: Mapping[int, Outcome]) -> list[str]:
    notes = [str(result)] if result.unparsed else []
    places: Counter[str] = Counter()
    pairs: dict[tuple[str, int], dict[str, str]] = {}
    for number, outcome in verdicts.items():
        line, outputs = lines[number], outcome.outputs or {}
        if outputs.get("judge_better"):
            pair = pairs.setdefault((line["row_id"], line["repeat"]), {})
            pair[line["order"]] = outputs["judge_better"]
    both = [pair for pair in pairs.values() if len(pair) == len(ORDERS)]
    for pair in both:
        named = pair[BASELINE_FIRST], pair[CANDIDATE_FIRST]
        places["first"] += named == ("baseline", "candidate")
        places["second"] += named == ("candidate", "baseline")
    return notes + [
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
