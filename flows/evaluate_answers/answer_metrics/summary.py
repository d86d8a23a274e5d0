"""The metrics of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from .inputs import read_ground_truth
from .text import corpus_metrics


def summarize_scores(
    scores: Sequence[Mapping[str, float | None]],
    answers: Sequence[str],
    ground_truths: Sequence[str | None],
) -> dict[str, float]:
    """The mean of each metric over the lines that have it, corpus scores, and how many ``lines``.

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
    return {**means, **corpus, "lines": len(scores)}
