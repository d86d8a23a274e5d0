"""The general questions, asked beside the data: what a model still knows of what no row asks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.ask.journal import Outcome
from evaluation.metrics import GENERAL
from evaluation.results import Row
from flows.evaluate_answers.answer_metrics.words import holds, plain
from setup.common.files import sha256_file
from setup.common.paths import REPOSITORY

_FILE = REPOSITORY / "data" / "general" / "questions.jsonl"
VARIANT = "${chat.brief}"  # short answers: such a question has one


@dataclass(frozen=True)
class Questions:
    """The questions with the answers that are expected: one of them, as words of the answer."""

    path: Path
    sha256: str
    rows: list[Row]

    @classmethod
    def read(cls) -> Questions:
        """The committed ones."""
        lines = _FILE.read_text(encoding="utf-8").splitlines()
        return cls(_FILE, sha256_file(_FILE), [json.loads(line) for line in lines])

    @property
    def lines(self) -> list[Row]:
        """The lines that the chat flow is asked."""
        return [{"question": row["question"], "chat_history": []} for row in self.rows]

    def scored(self, outcomes: Mapping[int, Outcome]) -> Iterator[Row]:
        """Each question as a row of a run, named by itself, 1 where its answer is right, else 0."""
        for line, (row, inputs) in enumerate(zip(self.rows, self.lines, strict=True)):
            outcome = outcomes[line]
            answer = (outcome.outputs or {}).get("answer")
            right = any(holds(plain(str(answer)), expected) for expected in row["expected"])
            yield {
                "id": row["question"],
                "line": line,
                "inputs": inputs,
                "ground_truth": " or ".join(row["expected"]),
                "answer": answer,
                "error": outcome.error and outcome.error.as_dict(),
                "scores": {} if outcome.error else {GENERAL: float(right)},
                "reasons": {},
            }


def count(rows: Sequence[Row]) -> dict[str, Any]:
    """The numbers asked, answered right, and not answered at all, for summary.json."""
    right = sum(int(row["scores"].get(GENERAL, 0)) for row in rows)
    return {"n": len(rows), "right": right, "error": sum(bool(row["error"]) for row in rows)}
