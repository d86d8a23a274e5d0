"""The numbers of a comparison against scipy and statsmodels, and at their edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_confint

from evaluation.compare.statistics import (
    NORMAL_FROM,
    Estimate,
    Values,
    bootstrap,
    detectable_mean,
    detectable_rate,
    exact_test,
    mean_estimates,
    paired_rate_estimate,
    rate_estimate,
)

NO_ROWS = Estimate(None, None, None, 0)


def ends(estimate: Estimate) -> tuple[float, float]:
    """Both ends of an interval that there is."""
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low, estimate.high


def mean_estimate(values: Values, seed: int = 0, resamples: int = 2000) -> Estimate:
    return mean_estimates([values], seed=seed, resamples=resamples)[0]


def skewed(n: int, seed: int = 3) -> Values:
    return np.random.default_rng(seed).exponential(size=n)


@pytest.mark.parametrize(("method", "tolerance"), [("percentile", 0.08), ("BCa", 0.2)])
def test_bootstrap_is_scipys_to_a_share_of_its_half_width(method: str, tolerance: float) -> None:
    values = skewed(200)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method=method, rng=np.random.default_rng(1)
    ).confidence_interval
    half = (theirs.high - theirs.low) / 2
    assert ends(mean_estimate(values, resamples=10_000)) == pytest.approx(
        (theirs.low, theirs.high), abs=tolerance * half
    )


@pytest.mark.parametrize("n", [2, 7, NORMAL_FROM, 20_000])
def test_few_and_many_rows_have_students_interval(n: int) -> None:
    values = skewed(n)
    theirs = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert ends(mean_estimate(values)) == pytest.approx(theirs)


def test_few_rows_are_as_uncertain_as_student_says() -> None:
    """The plain percentile interval of twelve rows is a seventh narrower."""
    values = stats.norm.ppf((np.arange(12) + 0.5) / 12)
    theirs = stats.t.interval(0.95, 11, loc=0.0, scale=stats.sem(values))
    assert ends(mean_estimate(values, resamples=20_000)) == pytest.approx(theirs, rel=0.05)


def test_student_takes_over_where_it_is_the_same_as_the_bootstrap() -> None:
    generator = np.random.default_rng(4)
    size = (NORMAL_FROM, 3)
    columns = np.hstack([generator.exponential(size=size), generator.beta(0.3, 2, size=size)])
    bootstrapped = bootstrap(columns, 0, 3000)
    students = [ends(found) for found in mean_estimates(list(columns.T), seed=0, resamples=1)]
    errors = columns.std(axis=0, ddof=1) / math.sqrt(NORMAL_FROM)
    # The bootstrap's own noise: its ends move by as much from seed to seed.
    assert np.abs((np.array(students).T - bootstrapped) / errors).max() < 0.15


def test_bootstrap_is_the_same_for_a_seed_and_whatever_stands_beside_it() -> None:
    values = skewed(60)
    alone = mean_estimate(values)
    beside = mean_estimates([skewed(60, 9), values, skewed(40)], seed=0, resamples=2000)
    assert alone == mean_estimate(values)
    assert ends(beside[1]) == pytest.approx(ends(alone), rel=1e-12)
    other = mean_estimate(values, seed=1)
    assert other.value == alone.value
    assert ends(other) != ends(alone)


def test_batches_of_resamples_do_not_change_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    values = skewed(300)
    whole = mean_estimate(values)
    monkeypatch.setattr("evaluation.compare.statistics._CELLS", 50_000)
    assert ends(mean_estimate(values)) == pytest.approx(ends(whole), rel=1e-12)


def test_missing_values_are_left_out() -> None:
    values = skewed(50)
    holes = np.full(70, np.nan)
    holes[10:60] = values
    assert mean_estimate(holes) == mean_estimate(values)
    assert rate_estimate(np.array([1.0, np.nan, 0.0, 1.0, 1.0])).value == 0.75


@pytest.mark.parametrize("values", [np.array([]), np.array([np.nan, np.nan])])
def test_no_rows_are_all_null(values: Values) -> None:
    assert mean_estimate(values) == rate_estimate(values) == NO_ROWS
    assert paired_rate_estimate(0, 0, 0) == NO_ROWS
    assert detectable_rate(0, 0) is None


def test_one_row_has_no_interval() -> None:
    assert mean_estimate(np.array([0.5])) == Estimate(0.5, None, None, 1)
    assert rate_estimate(np.array([1.0])) == Estimate(1.0, None, None, 1)
    assert paired_rate_estimate(0, 1, 1) == Estimate(-1.0, None, None, 1)
    assert detectable_mean(np.array([0.5])) is None


@pytest.mark.parametrize("n", [2, 60, NORMAL_FROM])
def test_equal_values_have_an_interval_of_no_width(n: int) -> None:
    found = mean_estimate(np.full(n, 0.1))
    assert (found.value, *ends(found)) == pytest.approx((0.1, 0.1, 0.1), abs=1e-12)
    assert detectable_mean(np.zeros(n)) is None


@pytest.mark.parametrize(("ones", "n"), [(0, 166), (146, 166), (13, 16), (16, 16), (1, 2)])
def test_rate_has_wilsons_interval(ones: int, n: int) -> None:
    found = rate_estimate(np.array([1.0] * ones + [0.0] * (n - ones)))
    assert ends(found) == pytest.approx(proportion_confint(ones, n, method="wilson"), abs=1e-9)
    assert found.value == ones / n


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (3, 0), (6, 0), (12, 5), (5, 12), (146, 0)])
def test_exact_test_is_mcnemars_on_zeros_and_ones(gained: int, lost: int) -> None:
    theirs = mcnemar([[7, gained], [lost, 3]], exact=True).pvalue
    assert exact_test(gained, lost) == pytest.approx(theirs)


def test_exact_test_is_the_sign_test() -> None:
    differences = np.random.default_rng(0).normal(0.3, size=40)
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    theirs = 2 * stats.binom.cdf(min(wins, losses), wins + losses, 0.5)
    assert exact_test(wins, losses) == exact_test(losses, wins) == pytest.approx(theirs)


def test_paired_rate_interval_mirrors_and_stays_within_its_bounds() -> None:
    found, mirrored = paired_rate_estimate(12, 5, 60), paired_rate_estimate(5, 12, 60)
    assert found.value == pytest.approx(7 / 60)
    assert ends(found) == pytest.approx((-ends(mirrored)[1], -ends(mirrored)[0]))
    low, high = ends(paired_rate_estimate(2, 0, 2))
    assert -1 <= low < 1
    assert high <= 1


def test_paired_rate_interval_excludes_zero_where_mcnemars_test_does() -> None:
    """But for borderline counts: no verdict stands beside a p-value that belies it."""
    counts = [(gained, lost) for gained in range(25) for lost in range(gained + 1)]
    intervals = [ends(paired_rate_estimate(gained, lost, 166)) for gained, lost in counts]
    excluded = [low > 0 or high < 0 for low, high in intervals]
    p_values = [exact_test(gained, lost) for gained, lost in counts]
    assert any(excluded)
    assert all(p < 0.08 for p, out in zip(p_values, excluded, strict=True) if out)
    assert all(p > 0.04 for p, out in zip(p_values, excluded, strict=True) if not out)


@pytest.mark.parametrize("n", [20, 60, 200])
def test_detectable_mean_has_the_power_it_says(n: int) -> None:
    differences = np.random.default_rng(n).normal(0.1, 0.5, size=n)
    found = detectable_mean(differences)
    assert found is not None
    effect = found / differences.std(ddof=1)
    assert TTestPower().power(effect, n, 0.05) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(("discordant", "n"), [(30, 166), (150, 166), (8, 40), (0, 40), (0, 6)])
def test_detectable_rate_has_the_power_it_says(discordant: int, n: int) -> None:
    """Summed over every outcome: of the exact test, and of the interval that the verdict is by."""
    found = detectable_rate(discordant, n)
    assert found is not None
    share = max(discordant / n, found)
    tested, shown = 0.0, 0.0
    for m in range(1, n + 1):
        chances = stats.binom.pmf(np.arange(m + 1), m, (1 + found / share) / 2)
        chances *= stats.binom.pmf(m, n, share)
        ups = np.arange(m + 1)
        tested += chances[2 * stats.binom.cdf(np.minimum(ups, m - ups), m, 0.5) <= 0.05].sum()
        above = [ends(paired_rate_estimate(int(up), m - int(up), n))[0] > 0 for up in ups]
        shown += chances[above].sum()
    assert 0.75 <= tested <= 0.81
    assert shown >= 0.799


def test_detectable_rate_is_no_smaller_without_discordant_pairs() -> None:
    """That no pair differed is no proof that the smallest difference would have shown."""
    none, few, many = (detectable_rate(discordant, 166) for discordant in (0, 30, 120))
    assert none is not None
    assert few is not None
    assert many is not None
    assert 0.04 < none < few < many < 0.25
    assert detectable_rate(5, 5) is None
    assert 0.9 < (detectable_rate(0, 6) or 0) < 1
