"""The evaluation flows a run can end with: which folder, and fed with what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.ask.rows_in import Row
from evaluation.batch.journal import Outcome
from setup.common.errors import FixableError
from setup.common.paths import REPOSITORY

FLOWS = REPOSITORY / "flows"
CHAT = FLOWS / "chat"


@dataclass(frozen=True)
class Evaluator:
    """A flow that evaluates the lines of a chat run, line by line.

    ``columns`` maps its inputs to columns of the data, with ``usage`` of the answer as one more,
    and of the chat run's outputs;
    ``connections`` gives a node another connection than its own; ``workers`` is how many lines it
    works on at a time: one where it only computes.
    """

    name: str
    flow: Path
    columns: Mapping[str, str]
    workers: int = 1
    connections: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def own_lines(
        self,
        rows: Sequence[Row],  # noqa: ARG002 - for the kinds that have lines of their own
        asked: Mapping[int, Outcome],  # noqa: ARG002
    ) -> list[Row] | None:
        """The lines to evaluate where they are not those of the chat run; here None: they are."""
        return None

    def collect(
        self, lines: Sequence[Row] | None, outcomes: Mapping[int, Outcome]
    ) -> dict[int, Outcome]:
        """Return the outcome of each row of the data, made of the outcomes of the lines."""
        del lines
        return dict(outcomes)

    def is_whole(self, outcome: Outcome) -> bool:  # noqa: ARG002 - a judge may say anything
        """True where a line that was evaluated has all its scores."""
        return True


def _columns(*data: str) -> dict[str, str]:
    return {"answer": "${run.outputs.answer}"} | {name: f"${{data.{name}}}" for name in data}


COMPUTED = {
    evaluator.name: evaluator
    for evaluator in (
        Evaluator(
            "answers",
            FLOWS / "evaluate_answers",
            _columns("ground_truth", "facts", "must_decline", "usage"),
        ),
        Evaluator(
            "safety",
            FLOWS / "evaluate_safety",
            _columns("question", "category", "canaries", "marks", "must_decline"),
        ),
    )
}


def computed_evaluator(name: str) -> Evaluator:
    """The evaluator ``name``, one that needs no model.

    Raises:
        FixableError: There is none of that name.
    """
    if name not in COMPUTED:
        names = ", ".join([*COMPUTED, "judge", "evals-judge"])
        raise FixableError(f"no evaluator {name!r}", f"--evaluator with one of: {names}")
    return COMPUTED[name]
