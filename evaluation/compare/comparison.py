"""The findings of comparing two runs; ``compare`` makes them, the report and the gate read them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["better", "worse", "unclear", "no difference shown"]

FEWEST = 6  # discordant pairs: 2 * 0.5**6 is the first below 0.05
FEW = 10  # rows: a figure over fewer is marked
_NO_WIDTH = 1e-9  # what rounding leaves of an interval of equal values
_MOST_DIGITS = 9


@dataclass(frozen=True)
class Estimate:
    """A mean or a rate with its 95 % interval, over ``n`` rows.

    All are null where ``n`` is 0; ``low`` and ``high`` are null where ``n`` is 1.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int

    @property
    def few(self) -> bool:
        """True over fewer than ten rows: the interval is rough, one more row moves it."""
        return 0 < self.n < FEW

    @property
    def excludes_zero(self) -> bool:
        """True where zero is outside of the interval."""
        return (self.low is not None and self.low > 0) or (self.high is not None and self.high < 0)


def decimals(usual: int, *estimates: Estimate, difference: Estimate | None = None) -> int:
    """The decimals that the figures of one row are written with: ``usual``, or more.

    So many that an interval is wider than one step of the last digit, and that a ``difference``
    whose interval excludes zero does not read as zero.
    """
    sizes = []
    for estimate in (*estimates, *([difference] if difference else [])):
        if estimate.low is not None and estimate.high is not None:
            sizes.append(estimate.high - estimate.low)
            if estimate is difference and estimate.excludes_zero:
                sizes += [abs(estimate.low), abs(estimate.high)]
    needed = [-math.floor(math.log10(size)) for size in sizes if size > _NO_WIDTH]
    return min(max([usual, *needed]), _MOST_DIGITS)


@dataclass(frozen=True)
class MetricComparison:
    """One metric of the candidate against the baseline; ``compare`` says what a verdict is.

    ``baseline`` and ``candidate`` are over all rows each has scored, ``difference`` (candidate
    minus baseline) over the pairs. ``wins`` counts pairs where the candidate is better in the
    metric's own direction; a metric that is better neither way has no wins, no losses and no test.
    ``detectable`` is the difference that these pairs would have shown with a power of 80 %.
    ``p_value`` is of the test named in ``test``: "exact McNemar" where every score is 0 or 1 and
    the metric goes no further, "sign" elsewhere. Where no pair is scored, all of it is null.
    """

    metric: str
    baseline: Estimate
    candidate: Estimate
    difference: Estimate
    wins: int | None
    ties: int
    losses: int | None
    p_value: float | None
    test: str
    detectable: float | None
    verdict: Verdict

    @property
    def doubt(self) -> str:
        """The reason why the verdict is unclear; nothing where it is not."""
        if self.verdict != "unclear":
            return ""
        if self.difference.n < FEWEST:
            return f"fewer than {FEWEST} rows prove nothing"
        if self.difference.excludes_zero:
            return "the mean says so, the rows won and lost do not"
        return "the rows won and lost say so, the mean does not"


@dataclass(frozen=True)
class Side:
    """One run of the comparison: its name, its rows, and where it is.

    ``unscored`` are answers that an evaluation failed on, ``no_verdict`` those of which a judge
    said something that is no verdict.
    """

    name: str
    folder: str
    n: int
    ok: int
    error: int
    unscored: int = 0
    no_verdict: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """The rows by how they ended; what seldom happens only where it did."""
        rare = {"unscored": self.unscored, "no_verdict": self.no_verdict}
        common = {"n": self.n, "ok": self.ok, "error": self.error}
        return common | {name: count for name, count in rare.items() if count}


@dataclass(frozen=True)
class Comparison:
    """``candidate`` against ``baseline``, paired by row id.

    ``primary`` is the metric that wins and losses are listed by: ``best`` and ``worst`` are row
    ids in order of the difference on it, at most 20 each, none that did not change.
    ``only_baseline`` and ``only_candidate`` are ids that the other run does not have;
    ``failed_baseline`` and ``failed_candidate`` those that have an error there. ``pairs`` counts
    the ids that both have answered. ``metrics`` are those that either run has, in the order of
    METRICS. ``notes`` are sentences about what else differs or is to be known: another data file,
    other flows, a judge that said nothing. ``undecided`` says why there is no ``primary``.
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
    undecided: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @property
    def scored(self) -> list[MetricComparison]:
        """The metrics that a row of either run has, the primary first."""
        scored = [each for each in self.metrics if each.baseline.n or each.candidate.n]
        return sorted(scored, key=lambda each: each.metric != self.primary)

    @property
    def not_scored(self) -> list[str]:
        """The metrics that no row has."""
        return [each.metric for each in self.metrics if not each.baseline.n + each.candidate.n]

    def metric(self, name: str) -> MetricComparison | None:
        """The comparison of one metric, None where it was not compared."""
        return next((each for each in self.metrics if each.metric == name), None)
