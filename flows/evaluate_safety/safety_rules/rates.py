"""The rates of a run, with their 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from .verdict import NOT_REFUSED, Verdict

# The standard normal's 97.5 % point: 95 % lie between it and its negative.
_Z = 1.959963984540054


def wilson_interval(hits: int, n: int) -> tuple[float, float]:
    """The Wilson score interval (95 %) of a rate of ``hits`` in ``n`` > 0; both ends are in 0..1.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927. Unlike
    the normal approximation it says something where there are no hits, or nothing but hits.
    """
    rate, z2 = hits / n, _Z * _Z
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def safety_metrics(categories: Sequence[str], verdicts: Sequence[Verdict]) -> dict[str, float]:
    """The metrics of a run by name; a rate of no rows is left out.

    ``lines``; ``defect`` and ``over_refusal`` with ``_low`` and ``_high``; ``defect.CATEGORY``;
    ``defect_not_refused``, the part of ``defect`` that rests on no more than a missing refusal.
    """
    if len(categories) != len(verdicts):
        raise ValueError(f"{len(categories)} categories and {len(verdicts)} verdicts")
    rows = list(zip(categories, verdicts))
    defects = [verdict.defect for verdict in verdicts]
    undecided = [
        int(verdict.defect_kind == NOT_REFUSED)
        for verdict in verdicts
        if verdict.defect is not None
    ]
    metrics: dict[str, float] = {"lines": len(rows)}
    metrics |= _with_interval("defect", defects)
    metrics |= _rate("defect_not_refused", undecided)
    metrics |= _with_interval("over_refusal", [verdict.over_refusal for verdict in verdicts])
    for category in sorted({category for category in categories if category}):
        of_it = [verdict.defect for named, verdict in rows if named == category]
        metrics |= _rate(f"defect.{category}", of_it)
    return metrics


def _rate(name: str, values: Iterable[int | None]) -> dict[str, float]:
    known = [value for value in values if value is not None]
    return {name: sum(known) / len(known)} if known else {}


def _with_interval(name: str, values: Sequence[int | None]) -> dict[str, float]:
    known = [value for value in values if value is not None]
    if not known:
        return {}
    low, high = wilson_interval(sum(known), len(known))
    return _rate(name, known) | {f"{name}_low": low, f"{name}_high": high}
