"""What comparing two runs finds; ``compare`` makes it, the report and the gate read it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["better", "worse", "no difference shown"]


@dataclass(frozen=True)
class Estimate:
    """A mean or a rate with its 95 % interval, over ``n`` rows.

    All are null where ``n`` is 0; ``low`` and ``high`` are null where ``n`` is 1.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class MetricComparison:
    """One metric of the candidate against the baseline; ``compare`` says what a verdict is.

    ``baseline`` and ``candidate`` are over all rows each has scored, ``difference`` (candidate
    minus baseline) over the pairs. ``wins`` counts pairs where the candidate is better in the
    metric's own direction; for a metric that is better neither way it counts the larger value.
    ``detectable`` is the difference that these pairs would have shown with a power of 80 %.
    ``p_value`` is of the test named in ``test``: "exact McNemar" where every score is 0 or 1 and
    the metric goes no further, "sign" elsewhere. Where no pair is scored, all of it is null.
    """

    metric: str
    baseline: Estimate
    candidate: Estimate
    difference: Estimate
    wins: int
    ties: int
    losses: int
    p_value: float | None
    test: str
    detectable: float | None
    verdict: Verdict


@dataclass(frozen=True)
class Side:
    """One run of the comparison: its name, its rows, and where it is."""

    name: str
    folder: str
    n: int
    ok: int
    error: int


@dataclass(frozen=True)
class Comparison:
    """``candidate`` against ``baseline``, paired by row id.

    ``primary`` is the metric that wins and losses are listed by: ``best`` and ``worst`` are row
    ids in order of the difference on it, at most 20 each, none that did not change.
    ``only_baseline`` and ``only_candidate`` are ids that the other run does not have;
    ``failed_baseline`` and ``failed_candidate`` those that have an error there. ``pairs`` counts
    the ids that both have answered. ``metrics`` are those that either run has, in the order of
    METRICS. ``notes`` are sentences about what else differs: another data file, other flows.
    """

    baseline: Side
    candidate: Side
    pairs: int
    metrics: list[MetricComparison]
    primary: str
    best: list[str]
    worst: list[str]
    only_baseline: list[str]
    only_candidate: list[str]
    failed_baseline: list[str]
    failed_candidate: list[str]
    seed: int
    resamples: int
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def metric(self, name: str) -> MetricComparison | None:
        """The comparison of one metric, None where it was not compared."""
        return next((found for found in self.metrics if found.metric == name), None)
