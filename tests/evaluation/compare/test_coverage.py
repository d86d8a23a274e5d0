"""A 95 % interval holds the true value 95 times of 100: by simulation, and summed exactly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from evaluation.compare.statistics import (
    Estimate,
    Values,
    mean_estimates,
    paired_rate_estimate,
    rate_estimate,
)
from tests.evaluation.compare.test_statistics import ends

SAMPLES = 2500
Draw = Callable[[np.random.Generator, tuple[int, int]], Values]

SCORES: dict[str, tuple[Draw, float]] = {
    "normal": (lambda generator, size: generator.normal(size=size), 0.0),
    "exponential": (lambda generator, size: generator.exponential(size=size), 1.0),
    "latency": (lambda generator, size: generator.lognormal(0, 0.5, size=size), np.exp(0.125)),
    "J-shaped": (lambda generator, size: generator.beta(0.3, 2, size=size), 0.3 / 2.3),
}


def holds(estimate: Estimate, value: float) -> bool:
    low, high = ends(estimate)
    return low <= value <= high


@pytest.mark.parametrize("n", [60, 200])
@pytest.mark.parametrize("name", list(SCORES))
def test_mean(name: str, n: int) -> None:
    draw, mean = SCORES[name]
    samples = draw(np.random.default_rng(11), (SAMPLES, n))
    found = mean_estimates(list(samples), seed=0, resamples=1000)
    covered = sum(holds(estimate, mean) for estimate in found) / SAMPLES
    assert 0.93 <= covered <= 0.97


@pytest.mark.parametrize("n", [60, 200])
def test_rate(n: int) -> None:
    """Exact: the probability of every count whose interval holds the rate."""
    found = [rate_estimate((np.arange(n) < ones).astype(float)) for ones in range(n + 1)]
    for rate in (0.03, 0.05, 0.1, 0.2, 0.5, 0.88, 0.97):
        held = np.array([holds(estimate, rate) for estimate in found])
        covered = stats.binom.pmf(np.arange(n + 1), n, rate)[held].sum()
        assert 0.93 <= covered <= 0.971, rate


@pytest.mark.parametrize("n", [60, 120])
def test_difference_of_paired_rates(n: int) -> None:
    """Exact as well; near the edges it may be too wide, never too narrow."""
    counts = [(gained, lost) for gained in range(n + 1) for lost in range(n + 1 - gained)]
    found = [paired_rate_estimate(gained, lost, n) for gained, lost in counts]
    outcomes = np.array([(gained, lost, n - gained - lost) for gained, lost in counts])

    def covered(up: float, down: float) -> float:
        held = np.array([holds(estimate, up - down) for estimate in found])
        chances = stats.multinomial.pmf(outcomes[held], n, [up, down, 1 - up - down])
        return float(chances.sum())

    for up, down in [(0.1, 0.05), (0.2, 0.05), (0.3, 0.3), (0.05, 0.4)]:
        assert 0.93 <= covered(up, down) <= 0.97, (up, down)
    for up, down in [(0.02, 0.02), (0.05, 0.0), (0.88, 0.0), (0.97, 0.01)]:
        assert covered(up, down) >= 0.93, (up, down)
