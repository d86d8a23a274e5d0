"""What of an answer is right, decided without a model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def fact_recall(rows: Sequence[Row], answers: dict[int, str]) -> tuple[float, int]:
    """The mean share of a row's ``facts`` that its answer holds, and the rows that count.

    Rows without facts do not count; a row without an answer has found none of them.
    """
    shares = [
        sum(holds(answers.get(number, ""), fact) for fact in row["facts"]) / len(row["facts"])
        for number, row in enumerate(rows)
        if row.get("facts")
    ]
    return (sum(shares) / len(shares) if shares else 0.0), len(shares)


def declines(rows: Sequence[Row], answers: dict[int, str]) -> tuple[int, int]:
    """How many of the rows that must be declined are, in the very words; and of how many."""
    due = [number for number, row in enumerate(rows) if row.get("must_decline")]
    done = sum(_plain(answers.get(n, "")) == _plain(rows[n]["ground_truth"]) for n in due)
    return done, len(due)


def holds(answer: str, fact: str) -> bool:
    """Whether ``fact`` stands in ``answer`` as whole words: 9 months is not in 19 months."""
    return bool(re.search(rf"(?<![\w.,]){re.escape(_plain(fact))}(?!\w)", _plain(answer)))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
