"""The material shown to the judge: one JSON object on one line, which no text in it can leave."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MODES = ("score", "pairwise")
BASELINE_FIRST, CANDIDATE_FIRST = "baseline first", "candidate first"
ORDERS = (BASELINE_FIRST, CANDIDATE_FIRST)

# JSON leaves these as they are: line ends that it knows nothing of, and "<", which starts the
# control tokens (<|im_end|>, </s>) that some servers read out of a message's text.
_ESCAPED = {ord(character): f"\\u{ord(character):04x}" for character in "<\x7f\x85\u2028\u2029"}


class MaterialError(ValueError):
    """The line cannot be judged; the text says what is wrong and what to do."""


@dataclass(frozen=True)
class Material:
    """One line's texts; ``answer`` is the candidate's and ``other_answer`` the baseline's."""

    question: str
    chat_history: Sequence[Any]
    answer: str
    other_answer: str
    ground_truth: str

    def render(self, mode: str, order: str, row_id: str) -> str:
        """The JSON object for the judge, answers under names that do not tell whose they are.

        Raises:
            MaterialError: ``mode``, ``order`` and the texts do not belong together.
        """
        _check(mode, order, row_id)
        if mode == "pairwise":
            pair = [self.other_answer, self.answer]
            first, second = pair if order == BASELINE_FIRST else reversed(pair)
            answers = {"Answer 1": first, "Answer 2": second}
        else:
            answers = {"answer": self.answer}
        shown = {
            "question": self.question,
            "conversation": [_turn(turn) for turn in self.chat_history],
            "reference": self.ground_truth if self.ground_truth.strip() else None,
            **answers,
        }
        return quote(shown)


def quote(value: Any) -> str:
    """``value`` as JSON on one line, readable, without ``<`` and without half characters."""
    text = json.dumps(value, ensure_ascii=False).translate(_ESCAPED)
    return text.encode("utf-8", "replace").decode("utf-8")


def _check(mode: str, order: str, row_id: str) -> None:
    if mode not in MODES:
        raise MaterialError(f"mode {mode!r} is unknown. Fix: one of {', '.join(MODES)}")
    if mode == "score" and order:
        raise MaterialError(
            f"order {order!r} is given, but one answer is to be scored. "
            "Fix: add --variant '${case.pairwise}', or leave order out"
        )
    if mode == "pairwise" and order not in ORDERS:
        raise MaterialError(
            f"order {order!r} is unknown. Fix: map it to one of {', '.join(ORDERS)}"
        )
    if mode == "pairwise" and not row_id:
        raise MaterialError(
            "row_id is empty, so the two orders of a row cannot be put together. "
            "Fix: map row_id to a column that names the row"
        )


def _turn(turn: Any) -> dict[str, str]:
    try:
        return {
            "question": str(turn["inputs"]["question"]),
            "answer": str(turn["outputs"]["answer"]),
        }
    except (KeyError, TypeError):
        raise MaterialError(
            "a turn of chat_history has not the form "
            '{"inputs": {"question": …}, "outputs": {"answer": …}}. Fix: the data line'
        ) from None
