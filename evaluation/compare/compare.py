"""Two runs, paired by row id: what differs, how surely, and which rows were won and lost.

A verdict is "better" or "worse" where two things say so: the 95 % interval of the difference
excludes zero, and the exact test of rows won and lost has p < 0.05, the same way. Where one alone
says so it is "unclear". Of metrics that do not differ at all, one in twenty gets a verdict by
chance: so the primary metric decides, chosen before looking, and the others explain. A row that
failed in either run is in no pair: read the errors with the verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation import metrics
from evaluation.compare import notes, statistics
from evaluation.compare.comparison import Comparison, MetricComparison, Side, Verdict
from evaluation.compare.preference import add_preferences
from evaluation.compare.statistics import Estimate, Values
from evaluation.compare.table import Table, names_in, only_shares, possible, read_table
from evaluation.results import Row, RunFolder
from setup.common.errors import FixableError

LISTED = 20
Indices = NDArray[np.int64]
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

    ``seed`` and ``resamples`` are of the bootstrap. ``primary`` is the metric that decides, and
    that ``best`` and ``worst`` go by; empty takes the one that
    :func:`evaluation.metrics.deciding_metric` names for the rows answered in both.
    """
    left, right = (read_table(run, seed=seed, resamples=resamples) for run in (baseline, candidate))
    preferred = add_preferences(left, right)
    pairs = pair_rows(left, right)
    scores = {name: _paired(name, left, right, pairs) for name in names_in(left, right)}
    general = _general(left, right)
    scores |= {metrics.GENERAL: general[0]} if general else {}
    compared = _metrics(left, right, scores)
    answered = int((~left.failed[pairs.in_baseline] & ~right.failed[pairs.in_candidate]).sum())
    primary = _primary(compared, primary, answered)
    best, worst = (
        _extremes(metrics.METRICS[primary], scores[primary], pairs) if primary else ([], [])
    )
    before, after = (Side(t.run.name, str(t.run.path), **t.counts) for t in (left, right))
    return Comparison(
        before,
        after,
        answered,
        compared,
        primary,
        best,
        worst,
        pairs.only_baseline,
        pairs.only_candidate,
        left.failed_ids(),
        right.failed_ids(),
        seed,
        resamples,
        [
            *notes.notes_on(baseline, candidate),
            *notes.notes_of(left, right),
            *notes.notes_on_general(left, right, len(general[1].ids) if general else 0),
            *preferred,
        ],
        "" if primary else notes.why_undecided(left, right),
        _extremes(metrics.METRICS[metrics.GENERAL], *general)[1] if general else [],
        (left, right),
    )


def _general(left: Table, right: Table) -> tuple[_Scores, Pairs] | None:
    """The scores and pairs of the general questions, empty where one side was asked none."""
    before, after = left.general, right.general
    if before is None and after is None:
        return None
    if before is None or after is None:
        none, nowhere = np.empty(0), np.empty(0, dtype=np.int64)
        return _Scores(none, none, nowhere, True), Pairs([], nowhere, nowhere, [], [])
    pairs = _pairs(before, after)
    return _paired(metrics.GENERAL, before, after, pairs), pairs


def _metrics(left: Table, right: Table, scores: Mapping[str, _Scores]) -> list[MetricComparison]:
    columns = {name: each.difference for name, each in scores.items() if not each.shares}
    drawn = statistics.mean_estimates(
        list(columns.values()), seed=left.seed, resamples=left.resamples
    )
    means = dict(zip(columns, drawn, strict=True))
    none = statistics.NONE
    return [
        _compared(
            metrics.METRICS[name],
            left.estimates.get(name, none),
            right.estimates.get(name, none),
            means.get(name),
            each,
        )
        for name, each in scores.items()
    ]


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
    return possible(difference, after.low - before.high, after.high - before.low)


@dataclass(frozen=True)
class _Scores:
    """The scores of one metric where both runs have one, and at which of the pairs."""

    baseline: Values
    candidate: Values
    at: Indices
    shares: bool

    @property
    def difference(self) -> Values:
        difference = self.candidate - self.baseline
        difference[np.abs(difference) < _SAME] = 0.0
        return difference


def _paired(name: str, left: Table, right: Table, pairs: Pairs) -> _Scores:
    absent = np.full(len(pairs.ids), np.nan)
    before = left.scores[name][pairs.in_baseline] if name in left.scores else absent
    after = right.scores[name][pairs.in_candidate] if name in right.scores else absent
    at = np.flatnonzero(~np.isnan(before) & ~np.isnan(after))
    shares = only_shares(metrics.METRICS[name], before[at], after[at])
    return _Scores(before[at], after[at], at, shares)


def _counts(differences: Values) -> tuple[int, int]:
    """Count how many are above and how many below zero."""
    return int((differences > 0).sum()), int((differences < 0).sum())


def _compared(
    metric: metrics.Metric,
    before: Estimate,
    after: Estimate,
    mean: Estimate | None,
    pairs: _Scores,
) -> MetricComparison:
    n, (up, down) = len(pairs.at), _counts(pairs.difference)
    if mean is None:
        difference = statistics.paired_rate_estimate(up, down, n)
    else:
        difference = possible(
            mean, None if metric.widest is None else -metric.widest, metric.widest
        )
    difference = within_sides(difference, before, after)
    wins, losses = (down, up) if metric.better == "lower" else (up, down)
    directed = metric.better != "neither"
    p_value = statistics.exact_test(wins, losses) if n and directed else None
    return MetricComparison(
        metric=metric.name,
        baseline=before,
        candidate=after,
        difference=difference,
        wins=wins if directed else None,
        ties=n - wins - losses,
        losses=losses if directed else None,
        p_value=p_value,
        test=("exact McNemar" if pairs.shares else "sign") if directed else "",
        detectable=_detectable(metric, pairs),
        verdict=_verdict(metric, difference, wins - losses, p_value),
    )


def _detectable(metric: metrics.Metric, scores: _Scores) -> float | None:
    """None where only a difference beyond the metric's range would show."""
    if scores.shares:
        return statistics.detectable_rate(sum(_counts(scores.difference)), len(scores.at))
    smallest = statistics.detectable_mean(scores.difference)
    return smallest if smallest is None or smallest <= (metric.widest or smallest) else None


def _verdict(
    metric: metrics.Metric, difference: Estimate, won: int, p_value: float | None
) -> Verdict:
    """``won`` is by how many rows the candidate won."""
    if metric.better == "neither" or difference.value is None or p_value is None:
        return "no difference shown"
    gain = -difference.value if metric.better == "lower" else difference.value
    tested = p_value < 1 - statistics.CONFIDENCE
    if difference.excludes_zero and tested and (gain > 0) == (won > 0):
        return "better" if gain > 0 else "worse"
    return "unclear" if difference.excludes_zero or tested else "no difference shown"


def _primary(comparisons: list[MetricComparison], asked: str, rows: int) -> str:
    """The metric that decides; empty when none was asked for and none can."""
    compared = [comparison.metric for comparison in comparisons if comparison.difference.n]
    if asked and asked not in compared:
        metrics.known_metric(asked)
        there = f"name one of: {', '.join(compared)}" if compared else "look at the errors"
        raise FixableError(f"no row has a score of {asked} in both runs", there)
    counts = {comparison.metric: comparison.difference.n for comparison in comparisons}
    return asked or metrics.deciding_metric(counts, rows)


def _extremes(metric: metrics.Metric, scores: _Scores, pairs: Pairs) -> tuple[list[str], list[str]]:
    """The ids that won and lost most on ``metric``; equals in the order of the data."""
    gain = -scores.difference if metric.better == "lower" else scores.difference
    best, worst = (
        [
            pairs.ids[scores.at[index]]
            for index in np.argsort(-sign * gain, kind="stable")[:LISTED]
            if sign * gain[index] > 0
        ]
        for sign in (1, -1)
    )
    return best, worst


@dataclass(frozen=True)
class Pairs:
    """The shared rows of two runs, in the baseline's order: their ids and where each has them."""

    ids: list[str]
    in_baseline: Indices
    in_candidate: Indices
    only_baseline: list[str]
    only_candidate: list[str]


def pair_rows(baseline: Table, candidate: Table) -> Pairs:
    """Pair the rows of two runs by id."""
    for table in (baseline, candidate):
        _refuse_twice(table)
    pairs = _pairs(baseline, candidate)
    if not pairs.ids:
        names = f"{baseline.run.name} and {candidate.run.name}"
        raise FixableError(f"{names} have no row in common", "compare runs of the same data file")
    if not notes.same_data(baseline.run, candidate.run):
        _refuse_other_rows(baseline.rows(pairs.in_baseline), candidate.rows(pairs.in_candidate))
    return pairs


def _pairs(baseline: Table, candidate: Table) -> Pairs:
    left, right = baseline.index, candidate.index
    ids = [row_id for row_id in left if row_id in right]
    return Pairs(
        ids,
        np.array([left[row_id] for row_id in ids], dtype=np.int64),
        np.array([right[row_id] for row_id in ids], dtype=np.int64),
        [row_id for row_id in left if row_id not in right],
        [row_id for row_id in right if row_id not in left],
    )


def _refuse_twice(table: Table) -> None:
    if len(table.index) < len(table.ids):
        twice = next(row for index, row in enumerate(table.ids) if table.index[row] != index)
        raise FixableError(
            f"{table.run.rows_path} has the row {twice!r} twice",
            "give the rows of the data file ids of their own and run again",
        )


def _refuse_other_rows(baseline: Iterable[Row], candidate: Iterable[Row]) -> None:
    """Ids may be line numbers, which pair anything with anything."""
    for left, right in zip(baseline, candidate, strict=True):
        for part in ("inputs", "ground_truth", "facts", "must_decline"):
            # Not to say whether declining is due expects nothing else than to say that it is not.
            if (left.get(part) or None) != (right.get(part) or None):
                raise FixableError(
                    f"row {left['id']!r} has other {part.replace('_', ' ')} in each run",
                    "compare runs of the same data file",
                )
