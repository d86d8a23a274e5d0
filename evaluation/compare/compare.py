"""Two runs, paired by row id: what differs, how surely, and which rows were won and lost.

A verdict is "better" or "worse" where two things say so: the 95 % interval of the difference
excludes zero, and the exact test of rows won and lost has p < 0.05, the same way. Where one alone
says so it is "unclear". Of metrics that do not differ at all, one in twenty gets a verdict by
chance: so the primary metric decides, chosen before looking, and the others explain. A row that
failed in either run is in no pair: read the errors with the verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from evaluation.compare.comparison import Comparison, Estimate, MetricComparison, Side, Verdict
from evaluation.compare.notes import notes_of, notes_on, why_undecided
from evaluation.compare.pairs import Pairs, pair_rows
from evaluation.compare.preference import add_preferences
from evaluation.compare.statistics import (
    CONFIDENCE,
    Values,
    detectable_mean,
    detectable_rate,
    exact_test,
    mean_estimates,
    paired_rate_estimate,
    rate_estimate,
)
from evaluation.metrics import METRICS, Metric, deciding_metric, known_metric
from evaluation.results.folder import RunFolder, Table, read_table
from setup.common.errors import FixableError

LISTED = 20
NONE = Estimate(None, None, None, 0)
_SAME = 1e-12  # a smaller difference is one of rounding


def compare_runs(
    baseline: RunFolder,
    candidate: RunFolder,
    *,
    seed: int = 0,
    resamples: int = 2000,
    primary: str = "",
) -> Comparison:
    """``candidate`` against ``baseline``; the same arguments give the same numbers.

    Args:
        baseline: The run to be beaten.
        candidate: The run that claims to be better.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.
        primary: The metric that decides, and that ``best`` and ``worst`` go by. Empty takes the
            one that :func:`evaluation.metrics.deciding_metric` names for the rows answered in both.

    Raises:
        FixableError: The runs have no row in common, a row of that id asks something else in each,
            an id stands twice, a metric is unknown, or no pair has both scores of ``primary``.
    """
    left, right = read_table(baseline), read_table(candidate)
    preferred = add_preferences(left, right)
    pairs = pair_rows(left, right)
    scores = {name: _paired(name, left, right, pairs) for name in _names(left, right)}
    metrics = _metrics(left, right, scores, seed, resamples)
    answered = ~left.failed[pairs.in_baseline] & ~right.failed[pairs.in_candidate]
    primary = _primary(metrics, primary, int(answered.sum()))
    best, worst = _extremes(primary, scores, pairs)
    return Comparison(
        side_of(left),
        side_of(right),
        int(answered.sum()),
        metrics,
        primary,
        best,
        worst,
        pairs.only_baseline,
        pairs.only_candidate,
        _failed(left),
        _failed(right),
        seed,
        resamples,
        [*notes_on(baseline, candidate), *notes_of(left, right), *preferred],
        "" if primary else why_undecided(left, right),
    )


def _metrics(
    left: Table, right: Table, scores: Mapping[str, _Scores], seed: int, resamples: int
) -> list[MetricComparison]:
    before = estimate_scores(left, seed=seed, resamples=resamples)
    after = estimate_scores(right, seed=seed, resamples=resamples)
    differences = _differences(scores, seed, resamples)
    compared = []
    for name, metric_scores in scores.items():
        sides = before.get(name, NONE), after.get(name, NONE)
        difference = within_sides(differences[name], *sides)
        compared.append(_compared(name, *sides, difference, metric_scores))
    return compared


def estimate_scores(table: Table, *, seed: int = 0, resamples: int = 2000) -> dict[str, Estimate]:
    """Mean or share of every metric of one run, over the rows that have it.

    Raises:
        FixableError: A row has a score that is not in METRICS.
    """
    names = _names(table)
    means = [name for name in names if not _only_shares(METRICS[name], table.scores[name])]
    columns = [table.scores[name] for name in means]
    estimates = dict(
        zip(means, mean_estimates(columns, seed=seed, resamples=resamples), strict=True)
    )
    return {
        name: _possible(estimates[name], METRICS[name].lowest, METRICS[name].scale)
        if name in estimates
        else rate_estimate(table.scores[name])
        for name in names
    }


def _possible(estimate: Estimate, lowest: float | None, highest: float | None) -> Estimate:
    """``estimate`` with an interval that ends where the values end: no mean of counts is negative.

    What is cut off holds no true value, so the interval covers as often as before.
    """
    if estimate.low is None or estimate.high is None:
        return estimate
    low = estimate.low if lowest is None else max(estimate.low, lowest)
    high = estimate.high if highest is None else min(estimate.high, highest)
    return replace(estimate, low=low, high=high)


def within_sides(difference: Estimate, before: Estimate, after: Estimate) -> Estimate:
    """``difference`` where one side does not vary: no further than the other side reaches.

    Then it is the other side, moved; of that nothing more is cut off than what cannot be. Where
    both sides vary their own intervals say less than that of the difference.
    """
    if {before.n, after.n} != {difference.n} or not before.n:
        return difference
    if before.low is None or before.high is None or after.low is None or after.high is None:
        return difference
    one_varies = (before.low < before.high) != (after.low < after.high)
    if not one_varies:
        return difference
    return _possible(difference, after.low - before.high, after.high - before.low)


@dataclass(frozen=True)
class _Scores:
    """The scores of one metric where both runs have one, and at which of the pairs."""

    baseline: Values
    candidate: Values
    at: np.ndarray[tuple[int], np.dtype[np.int64]]
    shares: bool

    @property
    def difference(self) -> Values:
        difference = self.candidate - self.baseline
        difference[np.abs(difference) < _SAME] = 0.0
        return difference


def _names(*tables: Table) -> list[str]:
    occurring = {name for table in tables for name in table.scores}
    for name in sorted(occurring):
        known_metric(name)
    return [name for name in METRICS if name in occurring]


def _only_shares(metric: Metric, *columns: Values) -> bool:
    """Tell whether the scores are all 0 or 1, of a metric that ends there.

    Its name does not decide: recall of one fact a row is a share of rows as well.
    """
    return metric.scale == 1.0 and all(
        bool(np.all(np.isnan(column) | (column == 0.0) | (column == 1.0))) for column in columns
    )


def _paired(name: str, left: Table, right: Table, pairs: Pairs) -> _Scores:
    absent = np.full(len(pairs.ids), np.nan)
    before = left.scores[name][pairs.in_baseline] if name in left.scores else absent
    after = right.scores[name][pairs.in_candidate] if name in right.scores else absent
    at = np.flatnonzero(~np.isnan(before) & ~np.isnan(after))
    shares = _only_shares(METRICS[name], before[at], after[at])
    return _Scores(before[at], after[at], at, shares)


def _differences(scores: Mapping[str, _Scores], seed: int, resamples: int) -> dict[str, Estimate]:
    means = [name for name, metric_scores in scores.items() if not metric_scores.shares]
    columns = [scores[name].difference for name in means]
    estimates = mean_estimates(columns, seed=seed, resamples=resamples)
    rates = {
        name: paired_rate_estimate(*_counts(metric_scores.difference), len(metric_scores.at))
        for name, metric_scores in scores.items()
        if metric_scores.shares
    }
    for name, estimate in zip(means, estimates, strict=True):
        widest = METRICS[name].widest
        rates[name] = _possible(estimate, None if widest is None else -widest, widest)
    return rates


def _counts(differences: Values) -> tuple[int, int]:
    """Count how many are above and how many below zero."""
    return int((differences > 0).sum()), int((differences < 0).sum())


def _compared(
    name: str, before: Estimate, after: Estimate, difference: Estimate, scores: _Scores
) -> MetricComparison:
    up, down = _counts(scores.difference)
    metric, n = METRICS[name], difference.n
    wins, losses = (down, up) if metric.better == "lower" else (up, down)
    directed = metric.better != "neither"
    p_value = exact_test(wins, losses) if n and directed else None
    return MetricComparison(
        metric=name,
        baseline=before,
        candidate=after,
        difference=difference,
        wins=wins if directed else None,
        ties=n - wins - losses,
        losses=losses if directed else None,
        p_value=p_value,
        test=("exact McNemar" if scores.shares else "sign") if directed else "",
        detectable=_detectable(metric, scores),
        verdict=_verdict(metric, difference, wins - losses, p_value),
    )


def _detectable(metric: Metric, scores: _Scores) -> float | None:
    """None where only a difference beyond the metric's range would show."""
    if scores.shares:
        return detectable_rate(sum(_counts(scores.difference)), len(scores.at))
    smallest = detectable_mean(scores.difference)
    return smallest if smallest is None or smallest <= (metric.widest or smallest) else None


def _verdict(metric: Metric, difference: Estimate, won: int, p_value: float | None) -> Verdict:
    """``won`` is by how many rows the candidate won."""
    if metric.better == "neither" or difference.value is None or p_value is None:
        return "no difference shown"
    gain = -difference.value if metric.better == "lower" else difference.value
    tested = p_value < 1 - CONFIDENCE
    if difference.excludes_zero and tested and (gain > 0) == (won > 0):
        return "better" if gain > 0 else "worse"
    return "unclear" if difference.excludes_zero or tested else "no difference shown"


def _primary(metrics: list[MetricComparison], asked: str, rows: int) -> str:
    """The metric that decides; empty when none was asked for and none can."""
    compared = [comparison.metric for comparison in metrics if comparison.difference.n]
    if asked and asked not in compared:
        known_metric(asked)
        there = f"name one of: {', '.join(compared)}" if compared else "look at the errors"
        raise FixableError(f"no row has a score of {asked} in both runs", there)
    counts = {comparison.metric: comparison.difference.n for comparison in metrics}
    return asked or deciding_metric(counts, rows)


def _extremes(
    primary: str, scores: Mapping[str, _Scores], pairs: Pairs
) -> tuple[list[str], list[str]]:
    """The ids that won and lost most on ``primary``; equals in the order of the data."""
    if not primary:
        return [], []
    metric_scores = scores[primary]
    gain = (
        -metric_scores.difference
        if METRICS[primary].better == "lower"
        else metric_scores.difference
    )
    order = np.argsort(-gain, kind="stable")
    best = [index for index in order[:LISTED] if gain[index] > 0]
    order = np.argsort(gain, kind="stable")
    worst = [index for index in order[:LISTED] if gain[index] < 0]
    return (
        [pairs.ids[metric_scores.at[index]] for index in best],
        [pairs.ids[metric_scores.at[index]] for index in worst],
    )


def side_of(table: Table) -> Side:
    """A run as one side of a comparison."""
    errors = int(table.failed.sum())
    n = len(table.ids)
    unscored = int(table.run.summary.get("unscored", 0))
    no_verdict = int(np.count_nonzero(table.unparsed))
    return Side(table.run.name, str(table.run.path), n, n - errors, errors, unscored, no_verdict)


def _failed(table: Table) -> list[str]:
    return [table.ids[index] for index in np.flatnonzero(table.failed)]
