"""The scores of one line, and the metrics of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from .inputs import read_facts, read_flag, read_ground_truth, read_text, read_usage
from .refusals import declined, is_refusal, over_declined
from .text import corpus_metrics, text_metrics
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
    An input that is not of its type raises an InputError.
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


def summarize_scores(
    scores: Sequence[Mapping[str, float | None]],
    answers: Sequence[str],
    ground_truths: Sequence[str | None],
) -> dict[str, float]:
    """The mean of each metric over the lines that have it, corpus scores, and how many ``lines``.

    ``unknown_language`` counts the answers of which nobody here can tell whether they decline.
    The three sequences are of the same lines. A metric that no line has is left out.
    """
    names = list(dict.fromkeys(name for line in scores for name in line))
    columns = {name: [v for line in scores if (v := line.get(name)) is not None] for name in names}
    means = {name: fmean(values) for name, values in columns.items() if values}
    if len(answers) != len(ground_truths):
        raise ValueError(f"{len(answers)} answers and {len(ground_truths)} ground truths")
    truths = [read_ground_truth(truth) for truth in ground_truths]
    pairs = [(answer, truth) for answer, truth in zip(answers, truths) if truth]
    corpus = corpus_metrics([answer for answer, _ in pairs], [truth for _, truth in pairs])
    unknown = sum(is_refusal(answer) is None for answer in answers)
    counts = {"unknown_language": unknown} if unknown else {}
    return {**means, **corpus, **counts, "lines": len(scores)}
