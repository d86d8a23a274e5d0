"""Rows of the sample with answers that are right, wrong, cut, wordy, empty or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.home import ROOT
from tests.scripted.pf_home import isolated_home

Row = dict[str, Any]

# Before the first import of promptflow, which is why that happens inside the tests.
isolated_home()


def _perturbed(truth: str) -> list[str]:
    words = truth.split()
    return [
        truth,
        " ".join(words[: len(words) // 2]),
        " ".join(reversed(words)),
        truth.replace("9", "19").replace("2", "12"),
        f"Let me see. {truth} Is there more that you want to know?",
        "",
        "I'm sorry, but I can't help with that.",
    ]


@pytest.fixture(scope="session")
def rows() -> list[Row]:
    """Twenty lines as the flow takes them; four must be declined, one has no ground truth."""
    lines = (ROOT / "data/sample/test.jsonl").read_text(encoding="utf-8").splitlines()
    sample = [json.loads(line) for line in lines]
    refused = [row for row in sample if row["must_decline"]][:4]
    chosen = refused + [row for row in sample if not row["must_decline"]][:16]
    made = []
    for number, row in enumerate(chosen):
        answers = _perturbed(row["ground_truth"])
        seconds = None if number % 5 == 0 else number / 8
        made.append(
            {
                "answer": answers[number % len(answers)],
                "ground_truth": "" if number == 7 else row["ground_truth"],
                "facts": row["facts"],
                "must_decline": row["must_decline"],
                "usage": {"prompt_tokens": 20 + number, "seconds": seconds},
            }
        )
    return made
