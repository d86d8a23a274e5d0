"""The metrics an evaluation flow gives a row, and how they are read.

A metric is a number of one row. ``rate`` metrics are 0 or 1 (their mean is a share of rows); the
others are averaged. A row to which a metric does not apply has none: it is null, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from flows.evaluate_with_evals_judge.evals_judging.packages import JUDGES, PREFIXES
from setup.common.errors import FixableError

Better = Literal["higher", "lower", "neither"]

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Metric:
    """One metric: ``name`` in files, ``label`` for people, and which way is better.

    ``lowest`` is the smallest value, ``scale`` the largest where there is one (1, 5, 100), ``unit``
    stands behind a value. ``of_answers`` is whether it tells a right answer from a wrong one: a
    quick answer is no better an answer.
    """

    name: str
    label: str
    better: Better
    kind: Literal["mean", "rate"] = "mean"
    scale: float | None = 1.0
    unit: str = ""
    about: str = ""
    lowest: float = 0.0
    of_answers: bool = True

    @property
    def decides(self) -> bool:
        """True where a comparison may be decided by it unasked."""
        return self.of_answers and self.better != "neither"

    @property
    def widest(self) -> float | None:
        """The largest difference of two values, None where there is no end."""
        return None if self.scale is None else self.scale - self.lowest


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("fact_recall", "fact recall", "higher", about="share of the row's facts it holds"),
        Metric("declined", "declined where it must", "higher", "rate"),
        Metric("over_declined", "declined where it must not", "lower", "rate"),
        Metric(
            "general",
            "general questions",
            "higher",
            "rate",
            about="still answered right, of what no row asks",
            of_answers=False,
        ),
        Metric("f1", "F1", "higher", about="shared words, promptflow-evals"),
        Metric("rouge_1", "ROUGE-1", "higher", about="shared words, promptflow-evals"),
        Metric("rouge_2", "ROUGE-2", "higher", about="shared word pairs, promptflow-evals"),
        Metric("rouge_l", "ROUGE-L", "higher", about="longest shared sequence, promptflow-evals"),
        Metric("bleu", "BLEU", "higher", scale=100.0, about="of a sentence, sacrebleu"),
        Metric("chrf", "chrF", "higher", scale=100.0, about="shared letters, sacrebleu"),
        Metric("judge_correctness", "correctness, judged", "higher", scale=5.0, lowest=1.0),
        Metric("judge_relevance", "relevance, judged", "higher", scale=5.0, lowest=1.0),
        Metric("judge_coherence", "coherence, judged", "higher", scale=5.0, lowest=1.0),
        Metric("judge_fluency", "fluency, judged", "higher", scale=5.0, lowest=1.0),
        Metric("judge_spread", "spread over repeats, judged", "neither", scale=5.0),
        Metric("judge_preferred", "preferred by the judge", "higher", about="of both answers"),
        *(
            Metric(f"{prefix}_{name}", f"{name}, {package}", "higher", scale=5.0, lowest=1.0)
            for prefix, package in PREFIXES.items()
            for name in JUDGES
        ),
        Metric("defect", "unsafe answers", "lower", "rate"),
        Metric("over_refusal", "harmless requests refused", "lower", "rate"),
        Metric("latency_seconds", "latency", "lower", scale=None, unit="s", of_answers=False),
        Metric("answer_words", "words in the answer", "neither", scale=None),
        Metric("prompt_tokens", "prompt tokens", "neither", scale=None),
        Metric("completion_tokens", "answer tokens", "neither", scale=None),
    )
}


GENERAL = "general"
FIRST = (
    "fact_recall",
    GENERAL,
    "declined",
    "over_declined",
    "defect",
    "over_refusal",
    "latency_seconds",
    "completion_tokens",
)
"""Gains and what they cost: read first, and side by side."""


def reading_order(name: str) -> tuple[int, int]:
    """The key by which metrics are sorted for a reader: those of FIRST, then as in METRICS."""
    return FIRST.index(name) if name in FIRST else len(FIRST), list(METRICS).index(name)


def known_metric(name: str) -> Metric:
    """The metric ``name``."""
    if name not in METRICS:
        raise FixableError(f"no metric {name!r}", f"name one of: {', '.join(METRICS)}")
    return METRICS[name]


def within(name: str, score: float) -> float:
    """``score`` without what rounding adds beyond the ends of the metric ``name``."""
    metric = METRICS.get(name)
    if metric is None or metric.scale is None or metric.lowest <= score <= metric.scale:
        return score
    end = metric.scale if score > metric.scale else metric.lowest
    return end if abs(score - end) < _ROUNDING * metric.scale else score


def deciding_metric(scored: Mapping[str, int], rows: int) -> str:
    """The metric that decides where none was named; empty where no metric can.

    Of the metrics that tell a right answer from a wrong one, in the order of :data:`METRICS`, it is
    the first that at least half of ``rows`` have a score of; where none has so many, the one with
    the most. ``scored`` counts rows, so the choice knows nothing of how high they scored.
    """
    counts = {name: scored.get(name, 0) for name, metric in METRICS.items() if metric.decides}
    half = next((name for name, count in counts.items() if count and 2 * count >= rows), "")
    most = max(counts, key=lambda name: counts[name])
    return half or (most if counts[most] else "")
