"""Intervals, exact tests and detectable differences; every interval is one of 95 %.

What is used where was decided by simulation; tests/evaluation/compare/test_coverage.py keeps it so.
Of 60 rows of normal, exponential, lognormal, J- and U-shaped scores, the expanded percentile
bootstrap covers 94.0 to 95.2 % (10 000 samples each), the plain percentile 93.3 to 94.6 %, BCa 93.4
to 95.0 %, the studentized bootstrap 94.4 to 96.1 %. Where only every fifth row differs between two
runs, which is the rule when a model changes a little, they cover 93.7, 93.2, 91.5 and 92.5 %. Where
fewer than ten rows differ none is to be trusted (87 % at 4 of 60): then read the p-value. Shares
near 0 and 1 defeat them all (84 % at best for 0.03 of 60 rows), so shares have their own intervals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

CONFIDENCE = 0.95
FEWEST = 6  # discordant pairs: 2 * 0.5**6 is the first below 0.05
FEW = 10  # rows: a figure over fewer is marked
POWER = 0.8
TAIL = (1 - CONFIDENCE) / 2

BOOTSTRAP_FROM = 8  # rows; fewer have too few different resamples to reach out far enough
NORMAL_FROM = 5000  # rows; from here on the resampling noise is more than the bootstrap corrects

_CELLS = 2_000_000  # draws held at once: 16 MB
_Z = NormalDist().inv_cdf(1 - TAIL)
_Z_POWER = NormalDist().inv_cdf(POWER)


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


NONE = Estimate(None, None, None, 0)


def mean_estimates(columns: Sequence[Values], *, seed: int, resamples: int) -> list[Estimate]:
    """The mean of each column with its interval; NaN is left out.

    From 8 to 4999 values: the expanded percentile bootstrap, that is the percentile interval
    (Efron and Tibshirani 1993, chapter 13) at tails that make up for its being as narrow as a
    normal interval without n/(n-1) (Hesterberg 2015, "What teachers should know about the
    bootstrap", The American Statistician 69). Below and above: mean +- t * s / sqrt(n).

    A column's interval depends on its own values, ``seed`` and ``resamples`` only (but for
    rounding: sums are in another order), whatever the other columns are. Equal values have an
    interval of no width; one value has none.
    """
    kept = [column[~np.isnan(column)] for column in columns]
    by_size: dict[int, list[int]] = {}
    for index, column in enumerate(kept):
        by_size.setdefault(len(column), []).append(index)
    estimates: dict[int, Estimate] = {}
    for indices in by_size.values():
        made = _same_size(np.stack([kept[index] for index in indices], axis=1), seed, resamples)
        estimates.update(zip(indices, made, strict=True))
    return [estimates[index] for index in range(len(kept))]


def rate_estimate(values: Values) -> Estimate:
    """The share of ones among zeros and ones, NaN left out, with Wilson's interval.

    E. B. Wilson 1927, "Probable inference, the law of succession, and statistical inference",
    JASA 22. For any numbers between 0 and 1 it would be too wide, never too narrow: none with the
    same mean vary more than zeros and ones.
    """
    from scipy.stats import binomtest

    kept = values[~np.isnan(values)]
    n = len(kept)
    if n == 0:
        return NONE
    ones = int(kept.sum())
    if n == 1:
        return Estimate(float(ones), None, None, 1)
    interval = binomtest(ones, n).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(ones / n, float(interval.low), float(interval.high), n)


def paired_rate_estimate(gained: int, lost: int, n: int) -> Estimate:
    """The difference of two shares on ``n`` pairs of zeros and ones.

    ``gained`` pairs went from 0 to 1, ``lost`` from 1 to 0. The interval is Bonett and Price's
    (2012, "Adjusted Wald confidence interval for a difference of binomial proportions based on
    paired data", JEBS 37): one pair more of each kind, then d +- z * sqrt((p + q - d^2) / (n + 2)).
    Near the edges it is too wide rather than too narrow, and it excludes 0 where the exact McNemar
    test does, but for a few borderline counts; Tango's score interval excludes it at 4 to 0 of any
    number of pairs, where that test says p = 0.13.
    """
    if n == 0:
        return NONE
    value = (gained - lost) / n
    if n == 1:
        return Estimate(value, None, None, 1)
    p, q = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = _Z * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    return Estimate(value, max(-1.0, p - q - half), min(1.0, p - q + half), n)


def exact_test(wins: int, losses: int) -> float:
    """Two-sided p-value of "wins and losses are equally likely", ties dropped; 1 without either.

    On paired zeros and ones it is McNemar's test in its exact form (McNemar 1947, "Note on the
    sampling error of the difference between correlated proportions", Psychometrika 12), on other
    pairs the sign test.
    """
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def detectable_mean(differences: Values) -> float | None:
    """The mean difference that as many pairs, varying as these, show with a power of 80 %.

    (t(0.975) + t(0.8)) * s / sqrt(n), with n - 1 degrees of freedom. None where nothing varies:
    then the pairs say nothing about how much it would.
    """
    from scipy.special import stdtrit

    n = len(differences)
    spread = float(differences.std(ddof=1)) if n > 1 else 0.0
    if spread == 0.0:
        return None
    quantiles = stdtrit(n - 1, 1 - TAIL) + stdtrit(n - 1, POWER)
    return float(quantiles * spread / math.sqrt(n))


def detectable_rate(discordant: int, n: int) -> float | None:
    """The difference of shares that ``n`` pairs show with a power of 80 %.

    Connor 1987 ("Sample size for testing differences in proportions for the paired-sample design",
    Biometrics 43): n * d^2 = (z(0.975) * sqrt(r) + z(0.8) * sqrt(r - d^2))^2 solved for d, with r
    the share of ``discordant`` pairs. At least what makes six pairs differ, all one way, with that
    probability: the exact test shows nothing on fewer. None for fewer than six pairs.
    """
    from scipy.special import bdtri

    if n < FEWEST:
        return None
    share = discordant / n
    within = math.sqrt(share * (n - _Z**2 + _Z_POWER**2))
    spread = (_Z * math.sqrt(n * share) + _Z_POWER * within) / (n + _Z_POWER**2)
    return max(spread, float(bdtri(FEWEST - 1, n, 1 - POWER)))


def _same_size(columns: Values, seed: int, resamples: int) -> list[Estimate]:
    """Estimates of the columns of a matrix without NaN, a row for each value."""
    n, count = columns.shape
    if n == 0:
        return [NONE] * count
    means = columns.mean(axis=0)
    if n == 1:
        return [Estimate(float(mean), None, None, 1) for mean in means]
    resampled = BOOTSTRAP_FROM <= n < NORMAL_FROM
    low, high = bootstrap(columns, seed, resamples) if resampled else _student(columns)
    return [
        Estimate(float(mean), float(down), float(up), n)
        for mean, down, up in zip(means, low, high, strict=True)
    ]


def _student(columns: Values) -> tuple[Values, Values]:
    from scipy.special import stdtrit

    n = len(columns)
    half = stdtrit(n - 1, 1 - TAIL) * columns.std(axis=0, ddof=1) / math.sqrt(n)
    means = columns.mean(axis=0)
    return means - half, means + half


def bootstrap(columns: Values, seed: int, resamples: int) -> tuple[Values, Values]:
    """Lower and upper ends for the mean of each column, by the expanded percentile bootstrap.

    One draw of rows serves all columns: a resampled mean is a product with the row counts.
    """
    n, count = columns.shape
    means = columns.mean(axis=0)
    centred = columns - means
    resampled = np.empty((resamples, count))
    generator = np.random.default_rng(seed)
    batch = max(1, _CELLS // n)
    for start in range(0, resamples, batch):
        size = min(batch, resamples - start)
        draws = generator.integers(n, size=(size, n)) + n * np.arange(size)[:, np.newaxis]
        counts = np.bincount(draws.ravel(), minlength=size * n).reshape(size, n)
        resampled[start : start + size] = counts.astype(np.float64) @ centred / n
    tail = _expanded_tail(n)
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
    return means + low, means + high


def _expanded_tail(n: int) -> float:
    """The tail at which a normal interval with s of n is as wide as Student's with s of n - 1."""
    from scipy.special import ndtr, stdtrit

    return float(ndtr(stdtrit(n - 1, TAIL) * math.sqrt(n / (n - 1))))
