"""The findings of comparing two runs; ``compare`` makes them, the report and the gate read them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from evaluation.compare.statistics import FEWEST, Estimate
from evaluation.compare.table import Table
from evaluation.metrics import reading_order

Verdict = Literal["better", "worse", "unclear", "no difference shown"]


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
    """One run of the comparison: its name, where it is, and its rows, as :class:`Table` counts."""

    name: str
    folder: str
    n: int
    ok: int
    error: int
    unscored: int = 0
    no_verdict: int = 0


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
    ``general_lost`` are general questions, at most 20, that the baseline alone answered.
    ``tables`` are what all of it was read from.
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
    general_lost: list[str] = field(default_factory=list)
    tables: tuple[Table, ...] = field(default=(), repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        content = asdict(replace(self, tables=()))
        del content["tables"]
        return content

    @property
    def scored(self) -> list[MetricComparison]:
        """The metrics that a row of either run has, the primary first, then what it costs."""
        scored = [each for each in self.metrics if each.baseline.n or each.candidate.n]
        return sorted(scored, key=lambda m: (m.metric != self.primary, reading_order(m.metric)))

    @property
    def not_scored(self) -> list[str]:
        """The metrics that no row has."""
        return [each.metric for each in self.metrics if not each.baseline.n + each.candidate.n]

    def metric(self, name: str) -> MetricComparison | None:
        """The comparison of one metric, None where it was not compared."""
        return next((each for each in self.metrics if each.metric == name), None)

    def missing(self, baseline: str, candidate: str) -> dict[str, list[str]]:
        """The ids of rows that are in no pair, by why; the runs are called so."""
        ids = {
            f"only in {baseline}": self.only_baseline,
            f"only in {candidate}": self.only_candidate,
            f"failed in {baseline}": self.failed_baseline,
            f"failed in {candidate}": self.failed_candidate,
        }
        return {why: listed for why, listed in ids.items() if listed}
