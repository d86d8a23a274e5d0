"""Sentences about the numbers of runs: what else differs, what a judge did, why nothing decides."""

from __future__ import annotations

from typing import Any

import numpy as np

from evaluation.compare.table import Table
from evaluation.metrics import METRICS
from evaluation.results import RunFolder
from setup.common.console import shorten

_SAME_GRADE_FROM = 5  # rows; fewer may well deserve the same
_NAMED = 5
_JUDGED = ("judge_", "evals_", "azure_")


def notes_on(baseline: RunFolder, candidate: RunFolder) -> list[str]:
    """Sentences on what besides the model may have made a difference."""
    notes = []
    if _mapping(baseline) != _mapping(candidate):
        notes.append("other column mappings: only the rows that both have are compared")
    elif not same_data(baseline, candidate):
        files = " and ".join(str(_data(run).get("path", "?")) for run in (baseline, candidate))
        notes.append(f"other data files ({files}): only the rows that both have are compared")
    flows = [run.config.get("flows") or {} for run in (baseline, candidate)]
    changed = [name for name in flows[0] if name in flows[1] and flows[0][name] != flows[1][name]]
    if changed:
        notes.append(f"the flows changed between the runs: {', '.join(sorted(changed))}")
    bits = [(run.config.get("model") or {}).get("quantized") for run in (baseline, candidate)]
    if bits[0] != bits[1]:
        served = (
            f"{run.name} was served {f'in {name}' if name else 'as it was'}"
            for run, name in zip((baseline, candidate), bits, strict=True)
        )
        notes.append(f"quantised differently: {', '.join(served)}")
    return notes


def same_data(baseline: RunFolder, candidate: RunFolder) -> bool:
    """True where both runs read the same rows: the same file, its columns mapped alike."""
    sums = [_data(run).get("sha256") for run in (baseline, candidate)]
    same = sums[0] is not None and sums[0] == sums[1]
    return same and _mapping(baseline) == _mapping(candidate)


def notes_of(*tables: Table) -> list[str]:
    """Sentences on the runs' own numbers: their data, and how their judge behaved."""
    read = [note for table in tables for note in table.run.config.get("notes") or []]
    return [
        *dict.fromkeys(read),
        *(note for table in tables for note in (*_without_verdict(table), *_same_grades(table))),
        *(note for table in tables for note in _general_without_answer(table)),
        *(note for table in tables for note in (*_cut(table), *_reused(table.run))),
    ]


def _cut(table: Table) -> list[str]:
    """Say how many answers are as long as the chat flow lets them get."""
    limit, tokens = table.run.config.get("answer_limit"), table.scores.get("completion_tokens")
    cut = 0 if limit is None or tokens is None else int((tokens >= limit).sum())
    if not cut:
        return []
    which = "answer is" if cut == 1 else "answers are"
    return [f"{cut:,} of {table.answered:,} {which} cut at {limit} tokens in {table.run.name}"]


def _reused(run: RunFolder) -> list[str]:
    """Say whose answers they are, and when the latencies among them were measured."""
    return [
        f"{count:,} answers in {run.name} are those of {earlier}, with the latency measured then "
        "(--no-reuse asks anew)"
        for earlier, count in (run.config.get("reused") or {}).items()
    ]


def _general_without_answer(table: Table) -> list[str]:
    asked, run = table.general, table.run.name
    if asked is None or asked.answered == asked.n:
        return []
    return [f"{asked.n - asked.answered} of {asked.n} general questions have no answer in {run}"]


def notes_on_general(left: Table, right: Table, pairs: int) -> list[str]:
    """Sentences on general questions that were not asked of both."""
    asked = [table.general for table in (left, right)]
    if not any(asked):
        return []
    silent = [t.run.name for t in (left, right) if t.general is None]
    notes = [f"{name} was not asked the general questions: nothing shows a loss" for name in silent]
    if not silent and any(table and table.n > pairs for table in asked):
        notes.append(f"other general questions: the {pairs} that both were asked are compared")
    return notes


def why_undecided(*tables: Table) -> str:
    """Say why no metric of these runs, one or two, tells which answers are right."""
    if not all(table.answered for table in tables):
        return "no row has a score" + (" in both" if len(tables) == 2 else "")
    scored = [
        [METRICS[name].label for name, count in table.scored.items() if count and _decides(name)]
        for table in tables
    ]
    if all(scored):
        has = (f"{t.run.name} has {', '.join(s)}" for t, s in zip(tables, scored, strict=True))
        shared = set(scored[0]).intersection(*scored[1:])
        return "no row has a score in both" if shared else f"they share no metric: {'; '.join(has)}"
    empty = [table for table, labels in zip(tables, scored, strict=True) if not labels]
    return _why_empty(empty[0], "" if len(empty) == len(tables) else f" in {empty[0].run.name}")


def _why_empty(table: Table, where: str) -> str:
    replies = int(table.replies.sum())
    if replies and replies == int(table.unparsed.sum()):
        return f"no reply of the judge was a verdict{where}"
    if table.unscored == table.answered:
        return f"the evaluation failed on every answer{where}"
    return f"no answer can be scored{where}: no row has ground_truth, facts or must_decline"


def _decides(name: str) -> bool:
    return name in METRICS and METRICS[name].decides


def _without_verdict(table: Table) -> list[str]:
    unparsed, replies = int(table.unparsed.sum()), int(table.replies.sum())
    if not unparsed:
        return []
    at = np.flatnonzero(table.unparsed)
    ids = ", ".join(table.ids[index] for index in at[:_NAMED])
    rest = f" and {len(at) - _NAMED:,} more" if len(at) > _NAMED else ""
    said = next(iter(table.rows(at[:1])))["reasons"].get("judge_reason", "")
    first = f', the first "{shorten(said)}"' if said else ""
    return [
        f"{unparsed:,} of {replies:,} replies of the judge on {table.run.name} were no verdict and "
        f"score nothing{first} (rows {ids}{rest})"
    ]


def _same_grades(table: Table) -> list[str]:
    """A judge that has one grade for everything tells nothing apart."""
    grades: dict[tuple[float, int], list[str]] = {}
    for name, values in table.scores.items():
        scores = values[~np.isnan(values)]
        if (
            name.startswith(_JUDGED)
            and METRICS[name].lowest == 1.0
            and len(scores) >= _SAME_GRADE_FROM
            and np.ptp(scores) == 0
        ):
            label = METRICS[name].label.partition(",")[0]
            grades.setdefault((float(scores[0]), len(scores)), []).append(label)
    return [
        f"the judge gave {grade:g} to all {rows:,} rows of {table.run.name}: {', '.join(labels)}"
        for (grade, rows), labels in grades.items()
    ]


def _data(run: RunFolder) -> dict[str, Any]:
    return run.config.get("data") or {}


def _mapping(run: RunFolder) -> dict[str, str]:
    return run.config.get("column_mapping") or {}
