"""The metric ``judge_preferred``: which of two runs' answers a judge prefers, read from its record.

``python -m evaluation judge`` keeps it beside the candidate under the baseline's name; ``compare``,
``report`` and ``gate`` read it from there: 1 for a win, 0 for a loss, a half where the judge calls
a tie or names another side in each order.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.compare.table import Table
from evaluation.results import RunFolder
from setup.common.paths import read_json, write_private

METRIC = "judge_preferred"
_FOUND = "preferences.json"


def record_folder(baseline: RunFolder, candidate: RunFolder) -> Path:
    """The folder that keeps what a judge said of these two runs."""
    name = hashlib.sha256(baseline.name.encode()).hexdigest()[:12]
    return candidate.path / f"preferred-over-{name}"


def save_record(baseline: RunFolder, candidate: RunFolder, content: dict[str, Any]) -> None:
    """Keep ``content``: by ``rows`` what each is worth, and ``notes`` on how the judge did."""
    answers = {"answers": _digest(baseline, candidate)}
    write_private(record_folder(baseline, candidate) / _FOUND, content | answers)


def add_preferences(baseline: Table, candidate: Table) -> list[str]:
    """Give both tables the metric ``judge_preferred`` where a judge has compared these runs.

    Returns sentences on how the judge went about it.
    """
    record = read_json(record_folder(baseline.run, candidate.run) / _FOUND)
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
