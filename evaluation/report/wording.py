"""Numbers as the report writes them: few digits, one notation, a true minus sign."""

from __future__ import annotations

import math

from evaluation.compare.comparison import Estimate, decimals
from evaluation.metrics import Metric

NONE = "\u2013"
_SPACE, _MINUS = "\u00a0", "\u2212"
_DIGITS = {1.0: 3, 5.0: 2, 100.0: 1}


def digits_for(metric: Metric, *estimates: Estimate, difference: Estimate | None = None) -> int:
    """Return how many decimals values of ``metric`` are written with.

    About three digits that count, and more where the figures need them.
    """
    largest = max(
        (abs(estimate.value) for estimate in estimates if estimate.value is not None), default=0.0
    )
    digits = next((digits for bound, digits in ((1, 3), (10, 2), (100, 1)) if largest < bound), 0)
    return decimals(_DIGITS.get(metric.scale or 0.0, digits), *estimates, difference=difference)


def number(value: float | None, digits: int, unit: str = "") -> str:
    """``value`` with ``digits`` decimals; a dash for none."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value + 0.0:,.{digits}f}".replace(",", _SPACE).replace("-", _MINUS)
    if not text.strip(f"{_MINUS}0."):
        text = text.removeprefix(_MINUS)
    return f"{text}{_SPACE}{unit}" if unit else text


def signed(value: float | None, digits: int, unit: str = "") -> str:
    """Write ``value`` with its sign, a plus where it is above zero as written; a dash for none."""
    text = number(value, digits, unit)
    above = text[0] not in (_MINUS, NONE) and text.strip(f"0.{_SPACE}{unit}")
    return f"+{text}" if above else text


def interval(estimate: Estimate, digits: int, *, signs: bool = False) -> str:
    """The interval of an estimate: ``0.812 to 0.934``; a dash where there is none."""
    if estimate.low is None or estimate.high is None:
        return NONE
    write = signed if signs else number
    return f"{write(estimate.low, digits)} to {write(estimate.high, digits)}"


def share(estimate: Estimate) -> str:
    """A rate as a count of rows: ``13 of 16``; nothing without rows."""
    return (
        ""
        if estimate.value is None
        else f"{count(round(estimate.value * estimate.n))} of {count(estimate.n)}"
    )


def count(value: float | None) -> str:
    """A whole number with its thousands apart."""
    return number(value, 0)


def probability(value: float | None) -> str:
    """A p value: ``p = 0.034``, ``p < 0.001``."""
    if value is None:
        return NONE
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def duration(seconds: float | None) -> str:
    """``41.2 s``, ``4 min 12 s``, ``2 h 5 min``."""
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{seconds:.1f}{_SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{_SPACE}min {rest}{_SPACE}s"
    return f"{minutes // 60}{_SPACE}h {minutes % 60}{_SPACE}min"
