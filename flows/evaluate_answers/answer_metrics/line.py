"""The scores of one line."""

from __future__ import annotations

from typing import Any

from .inputs import read_facts, read_flag, read_ground_truth, read_text, read_usage
from .refusals import declined, over_declined
from .text import text_metrics
from .words import fact_recall


def score_answer(
    answer: str,
    ground_truth: str | None = "",
    facts: list[str] | None = None,
    must_decline: bool | None = None,
    usage: dict[str, Any] | None = None,
) -> dict[str, float | None]:
    """Every metric of the line by name; None where it does not apply.

    Without ``must_decline`` nobody has said whether the answer may decline: neither is scored.

    Raises:
        InputError: An input is not of its type.
    """
    text, truth = read_text("answer", answer), read_ground_truth(ground_truth)
    due = read_flag("must_decline", must_decline)
    return {
        **text_metrics(text, truth),
        "fact_recall": fact_recall(text, read_facts(facts)),
        "declined": declined(text, truth) if due is True else None,
        "over_declined": over_declined(text, truth) if due is False else None,
        "answer_words": len(text.split()),
        **read_usage(usage),
    }
