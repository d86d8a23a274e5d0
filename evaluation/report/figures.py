"""Which distributions the report draws, and on which axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from evaluation.compare.comparison import Estimate
from evaluation.metrics import METRICS, Metric
from evaluation.report.examples import ReportSide
from evaluation.report.plots import Axis, distribution_plot, histogram_plot, nice_above, rate_plot
from evaluation.report.wording import count, number, share

LATENCY = "latency_seconds"
_NOT_DRAWN = {LATENCY, "prompt_tokens"}  # one has a plot of its own, the other is the data's
_BINS = 20
_PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "slowest": 1.0}

Estimates = Mapping[str, Mapping[str, Estimate]]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """A plot with a line of text for each side (class, label, text)."""

    title: str
    about: str
    svg: Markup
    captions: list[tuple[str, str, str]]
    note: str = ""


@dataclass(frozen=True)
class Latency:
    """The latency plot, and its percentiles: one (class, label, texts) for each side."""

    svg: Markup
    names: list[str] = field(default_factory=list)
    rows: list[tuple[str, str, list[str]]] = field(default_factory=list)


def figures(sides: Sequence[ReportSide], estimates: Estimates) -> list[Figure]:
    """A figure for each metric that occurs, in the order of ``METRICS``.

    ``estimates`` are by metric, then by the side's key; rates are drawn from them.
    """
    charts = []
    for name, metric in METRICS.items():
        if name in _NOT_DRAWN or not any(side.values(name).size for side in sides):
            continue
        if metric.kind == "rate":
            charts.append(_rate(metric, sides, estimates.get(name, {})))
        else:
            charts.append(_histogram(metric, sides))
    return charts


def direction(metric: Metric) -> str:
    """In words which way is better."""
    return {"higher": "higher is better", "lower": "lower is better"}.get(metric.better, "")


def _rate(metric: Metric, sides: Sequence[ReportSide], estimates: Mapping[str, Estimate]) -> Figure:
    none = Estimate(None, None, None, 0)
    drawn = [(side.key, estimates.get(side.key, none)) for side in sides]
    captions = [
        (side.key, side.label, share(estimate) or "no rows")
        for side, (_, estimate) in zip(sides, drawn, strict=True)
    ]
    title = f"{metric.label}: {_aloud(captions)}"
    return Figure(metric.label, direction(metric), rate_plot(drawn, title), captions)


def _histogram(metric: Metric, sides: Sequence[ReportSide]) -> Figure:
    drawn = [(side.key, side.values(metric.name)) for side in sides]
    axis, edges = _axis(metric, [values for _, values in drawn])
    digits = {1.0: 3, 5.0: 2}.get(metric.scale or 0.0, 1)
    captions = [
        (side.key, side.label, _mean(values, digits))
        for side, (_, values) in zip(sides, drawn, strict=True)
    ]
    beyond = sum(int(np.count_nonzero(values > axis.high)) for _, values in drawn)
    note = f"{count(beyond)} values beyond the axis are in its last bar" if beyond else ""
    svg = histogram_plot(
        [(key, values) for key, values in drawn], edges, axis, f"{metric.label}: {_aloud(captions)}"
    )
    return Figure(metric.label, direction(metric), svg, captions, note)


def _mean(values: Numbers, digits: int) -> str:
    if not values.size:
        return "no rows"
    return f"mean {number(float(np.mean(values)), digits)} of {count(values.size)} rows"


def _aloud(captions: list[tuple[str, str, str]]) -> str:
    return "; ".join(f"{label} {text}" for _, label, text in captions)


def _axis(metric: Metric, columns: list[Numbers]) -> tuple[Axis, Numbers]:
    if metric.lowest == 1.0:
        ticks = [(float(grade), str(grade)) for grade in range(1, 6)]
        return Axis(0.5, 5.5, ticks), np.arange(0.5, 6.0)
    high = metric.scale or _reach(columns)
    return _from_zero(high), np.linspace(0.0, high, _BINS + 1)


def _reach(columns: list[Numbers], quantile: float = 0.995) -> float:
    return nice_above(
        max(float(np.quantile(column, quantile)) for column in columns if column.size)
    )


def _from_zero(high: float, unit: str = "") -> Axis:
    texts = [f"{value:g}{unit}" for value in (0.0, high / 2, high)]
    return Axis(0.0, high, list(zip((0.0, high / 2, high), texts, strict=True)))


def latency(sides: Sequence[ReportSide]) -> Latency | None:
    """Show how long answers took; None where nothing was timed."""
    timed = [(side, side.values(LATENCY)) for side in sides]
    timed = [(side, values) for side, values in timed if values.size]
    if not timed:
        return None
    axis = _from_zero(_reach([values for _, values in timed]), " s")
    rows = [(side.key, side.label, _percentiles(values)) for side, values in timed]
    aloud = "; ".join(
        f"{label}: half below {texts[0]}, 95 % below {texts[1]}" for _, label, texts in rows
    )
    svg = distribution_plot(
        [(side.key, values) for side, values in timed], axis, f"Latency. {aloud}"
    )
    return Latency(svg, list(_PERCENTILES), rows)


def _percentiles(values: Numbers) -> list[str]:
    percentiles = np.quantile(values, list(_PERCENTILES.values()), method="inverted_cdf")
    return [number(float(value), 2 if percentiles[-1] >= 1 else 3, "s") for value in percentiles]
