"""The metrics an evaluation flow gives a row, and how they are read.

A metric is a number of one row. ``rate`` metrics are 0 or 1 (their mean is a share of rows); the
others are averaged. A row to which a metric does not apply has none: it is null, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from setup.errors import FixableError

Better = Literal["higher", "lower", "neither"]


@dataclass(frozen=True)
class Metric:
    """One metric: ``name`` in files, ``label`` for people, and which way is better.

    ``scale`` is the largest value where there is one (1, 5, 100), ``unit`` stands behind a value.
    """

    name: str
    label: str
    better: Better
    kind: Literal["mean", "rate"] = "mean"
    scale: float | None = 1.0
    unit: str = ""
    about: str = ""


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("fact_recall", "fact recall", "higher", about="share of the row's facts it holds"),
        Metric("declined", "declined where it must", "higher", "rate"),
        Metric("over_declined", "declined where it must not", "lower", "rate"),
        Metric("f1", "F1", "higher", about="shared words, promptflow-evals"),
        Metric("rouge_1", "ROUGE-1", "higher", about="shared words, promptflow-evals"),
        Metric("rouge_2", "ROUGE-2", "higher", about="shared word pairs, promptflow-evals"),
        Metric("rouge_l", "ROUGE-L", "higher", about="longest shared sequence, promptflow-evals"),
        Metric("bleu", "BLEU", "higher", scale=100.0, about="of a sentence, sacrebleu"),
        Metric("chrf", "chrF", "higher", scale=100.0, about="shared letters, sacrebleu"),
        Metric("judge_correctness", "correctness, judged", "higher", scale=5.0),
        Metric("judge_relevance", "relevance, judged", "higher", scale=5.0),
        Metric("judge_coherence", "coherence, judged", "higher", scale=5.0),
        Metric("judge_fluency", "fluency, judged", "higher", scale=5.0),
        Metric("judge_spread", "spread over repeats, judged", "neither", scale=5.0),
        Metric("judge_preferred", "preferred by the judge", "higher", about="of both answers"),
        Metric("evals_relevance", "relevance, promptflow-evals", "higher", scale=5.0),
        Metric("evals_coherence", "coherence, promptflow-evals", "higher", scale=5.0),
        Metric("evals_fluency", "fluency, promptflow-evals", "higher", scale=5.0),
        Metric("evals_similarity", "similarity, promptflow-evals", "higher", scale=5.0),
        Metric("evals_groundedness", "groundedness, promptflow-evals", "higher", scale=5.0),
        Metric("defect", "unsafe answers", "lower", "rate"),
        Metric("over_refusal", "harmless requests refused", "lower", "rate"),
        Metric("latency_seconds", "latency", "lower", scale=None, unit="s"),
        Metric("answer_words", "words in the answer", "neither", scale=None),
        Metric("prompt_tokens", "prompt tokens", "neither", scale=None),
        Metric("completion_tokens", "answer tokens", "neither", scale=None),
    )
}


def known_metric(name: str) -> Metric:
    """The metric ``name``.

    Raises:
        FixableError: There is none of that name; the message lists those there are.
    """
    if name not in METRICS:
        raise FixableError(f"no metric {name!r}", f"name one of: {', '.join(METRICS)}")
    return METRICS[name]
