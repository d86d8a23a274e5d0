"""The gaps in the numbers: rows that failed, and rows that one run does not have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.compare.comparison import Comparison
from evaluation.report.side import Side
from evaluation.report.text import one_line
from evaluation.results import NOT_EVALUATED, Row
from evaluation.wording import count

LISTED = 50
_IDS = 20


@dataclass(frozen=True)
class Failure:
    """One failed row: which side, which row, its question, what happened."""

    key: str
    label: str
    id: str
    question: str
    message: str


@dataclass(frozen=True)
class ErrorGroup:
    """Failed rows of one type: how many on each side, and some of them."""

    type: str
    counts: list[str]
    listed: list[Failure]
    left_out: str


@dataclass(frozen=True)
class Gap:
    """Rows that could not be paired: a sentence, and ids of some."""

    sentence: str
    ids: list[str]
    left_out: str


def error_groups(sides: Sequence[Side]) -> list[ErrorGroup]:
    """Failed rows by type, the most frequent first; at most ``LISTED`` rows listed in all."""
    counts: dict[str, Counter[str]] = {}
    listed: dict[str, list[Failure]] = {}
    for side in sides:
        for row, kind, what in _problems(side):
            counts.setdefault(kind, Counter())[side.key] += 1
            if len(listed.setdefault(kind, [])) < LISTED:
                question = one_line(str((row.get("inputs") or {}).get("question", "")))
                message, name = one_line(what, limit=400), one_line(str(row["id"]))
                listed[kind].append(Failure(side.key, side.label, name, question, message))
    kinds = sorted(counts, key=lambda kind: (-counts[kind].total(), kind))
    shares = _shares([len(listed[kind]) for kind in kinds])
    return [
        ErrorGroup(
            kind,
            [count(counts[kind][side.key]) for side in sides],
            listed[kind][:most],
            _rest(counts[kind].total() - len(listed[kind][:most])),
        )
        for kind, most in zip(kinds, shares, strict=True)
    ]


def _problems(side: Side) -> Iterator[tuple[Row, str, str]]:
    """Rows without an answer, without a score and without a judge's verdict; of what kind, why."""
    for row in side.table.rows(np.flatnonzero(side.table.failed)):
        yield row, one_line(row["error"].kind), row["error"].line
    for row in side.table.rows() if side.table.unscored else ():
        for name, reason in (row.get("reasons") or {}).items():
            if str(reason).startswith(NOT_EVALUATED):
                yield row, "not evaluated", f"{name}: {str(reason).removeprefix(NOT_EVALUATED)}"
    for row in side.table.rows(np.flatnonzero(side.table.unparsed)):
        said = (row.get("reasons") or {}).get("judge_reason") or "(it said nothing)"
        yield row, "no verdict of the judge", str(said)


def _shares(sizes: list[int]) -> list[int]:
    """``LISTED`` places dealt in turn, so that a frequent error does not hide a rare one."""
    shares, left = [0] * len(sizes), LISTED
    while left and shares != sizes:
        for index, most in enumerate(sizes):
            if left and shares[index] < most:
                shares[index] += 1
                left -= 1
    return shares


def _rest(left: int) -> str:
    return f"{count(left)} more in rows.csv" if left > 0 else ""


def gaps(comparison: Comparison, baseline: str, candidate: str) -> list[Gap]:
    """Say why there are fewer pairs than rows; nothing where every row is paired and answered."""
    return [
        Gap(
            f"{count(len(ids))} {'row' if len(ids) == 1 else 'rows'} {why}",
            [one_line(row_id) for row_id in ids[:_IDS]],
            _rest(len(ids) - _IDS),
        )
        for why, ids in comparison.missing(baseline, candidate).items()
    ]
