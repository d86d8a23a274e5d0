"""Which distributions the report draws, and on which axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from evaluation import wording
from evaluation.compare.statistics import NONE, Estimate
from evaluation.metrics import METRICS, Metric
from evaluation.report import plots
from evaluation.report.side import Side

LATENCY = "latency_seconds"
_NOT_DRAWN = {LATENCY, "prompt_tokens"}  # one has a plot of its own, the other is the data's
_BINS = 20
_PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "slowest": 1.0}

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
    names: list[str]
    rows: list[tuple[str, str, list[str]]]


def figures(sides: Sequence[Side], digits: Mapping[str, int]) -> list[Figure]:
    """A figure for each metric that occurs, in the order of ``METRICS``; ``digits`` of its mean."""
    charts = []
    for name, metric in METRICS.items():
        if name in _NOT_DRAWN or not any(side.table.values(name).size for side in sides):
            continue
        is_rate = metric.kind == "rate"
        charts.append(_rate(metric, sides) if is_rate else _histogram(metric, sides, digits[name]))
    return charts


def _rate(metric: Metric, sides: Sequence[Side]) -> Figure:
    drawn = [(side.key, side.table.estimates.get(metric.name, NONE)) for side in sides]
    captions = [
        (side.key, side.label, wording.share(estimate) or "no rows")
        for side, (_, estimate) in zip(sides, drawn, strict=True)
    ]
    title = f"{metric.label}: {_aloud(captions)}"
    return Figure(metric.label, wording.direction(metric), plots.rate_plot(drawn, title), captions)


def _histogram(metric: Metric, sides: Sequence[Side], digits: int) -> Figure:
    drawn = [(side.key, side.table.values(metric.name)) for side in sides]
    axis, edges = _axis(metric, [values for _, values in drawn])
    captions = [
        (side.key, side.label, _mean(values, digits))
        for side, (_, values) in zip(sides, drawn, strict=True)
    ]
    beyond = sum(int(np.count_nonzero(values > axis.high)) for _, values in drawn)
    note = f"{wording.count(beyond)} values beyond the axis are in its last bar" if beyond else ""
    svg = plots.histogram_plot(drawn, edges, axis, f"{metric.label}: {_aloud(captions)}")
    return Figure(metric.label, wording.direction(metric), svg, captions, note)


def _mean(values: Numbers, digits: int) -> str:
    if not values.size:
        return "no rows"
    mean = wording.number(float(np.mean(values)), digits)
    return f"mean {mean} of {wording.count(values.size)} rows"


def _aloud(captions: list[tuple[str, str, str]]) -> str:
    return "; ".join(f"{label} {text}" for _, label, text in captions)


def _axis(metric: Metric, columns: list[Numbers]) -> tuple[plots.Axis, Numbers]:
    if metric.lowest == 1.0:
        ticks = [(float(grade), str(grade)) for grade in range(1, 6)]
        return plots.Axis(0.5, 5.5, ticks), np.arange(0.5, 6.0)
    high = metric.scale or _reach(columns)
    return _from_zero(high), np.linspace(0.0, high, _BINS + 1)


def _reach(columns: list[Numbers], quantile: float = 0.995) -> float:
    return plots.nice_above(
        max(float(np.quantile(column, quantile)) for column in columns if column.size)
    )


def _from_zero(high: float, unit: str = "") -> plots.Axis:
    texts = [f"{value:g}{unit}" for value in (0.0, high / 2, high)]
    return plots.Axis(0.0, high, list(zip((0.0, high / 2, high), texts, strict=True)))


def latency(sides: Sequence[Side]) -> Latency | None:
    """Show how long answers took; None where nothing was timed."""
    timed = [(side, side.table.values(LATENCY)) for side in sides]
    timed = [(side, values) for side, values in timed if values.size]
    if not timed:
        return None
    axis = _from_zero(_reach([values for _, values in timed]), " s")
    rows = [(side.key, side.label, _percentiles(values)) for side, values in timed]
    aloud = "; ".join(
        f"{label}: half below {texts[0]}, 95 % below {texts[1]}" for _, label, texts in rows
    )
    drawn = [(side.key, values) for side, values in timed]
    svg = plots.distribution_plot(drawn, axis, f"Latency. {aloud}")
    return Latency(svg, list(_PERCENTILES), rows)


def _percentiles(values: Numbers) -> list[str]:
    percentiles = np.quantile(values, list(_PERCENTILES.values()), method="inverted_cdf")
    slowest = Estimate(float(percentiles[-1]), None, None, values.size)
    digits = wording.digits_for(METRICS[LATENCY], slowest)
    return [wording.number(float(value), digits, "s") for value in percentiles]
