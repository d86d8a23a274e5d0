"""The comparison in sentences, and as the rows of the metric table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from evaluation.compare.comparison import FEW, Comparison, Estimate, MetricComparison
from evaluation.metrics import METRICS, Metric, known_metric
from evaluation.report.figures import direction
from evaluation.report.plots import interval_plot, nice_above
from evaluation.report.wording import (
    NONE,
    count,
    digits_for,
    interval,
    number,
    probability,
    share,
    signed,
)

_NO_PLOT = Markup()
_SIGNS = {"better": "✓", "worse": "✗", "none": "○"}


@dataclass(frozen=True)
class Cell:
    """A mean or a rate as the table writes it; ``of`` is "13 of 16" or how many rows."""

    value: str
    interval: str
    of: str


@dataclass(frozen=True)
class MetricRow:
    """One line of the metric table; ``tone`` is better, worse or none, for colour and sign."""

    name: str
    label: str
    about: str
    direction: str
    cells: list[Cell]
    difference: str = ""
    difference_interval: str = ""
    pairs: str = ""
    plot: Markup = _NO_PLOT
    record: str = ""
    p_value: str = ""
    test: str = ""
    detectable: str = ""
    tone: str = ""
    sign: str = ""
    words: str = ""
    doubt: str = ""


@dataclass(frozen=True)
class Headline:
    """The verdict: one sentence, the numbers behind it, and the large plot.

    ``left`` and ``right`` say (class, text) what it means to lie on that side of zero, ``reach``
    where the axis ends.
    """

    sentence: str
    numbers: str
    tone: str = "none"
    plot: Markup = _NO_PLOT
    left: tuple[str, str] = ("", "")
    right: tuple[str, str] = ("", "")
    reach: str = ""


def cell(metric: Metric, estimate: Estimate, digits: int) -> Cell:
    """One side's estimate."""
    of = share(estimate) if metric.kind == "rate" else f"{count(estimate.n)} rows"
    return Cell(
        number(estimate.value, digits, metric.unit), interval(estimate, digits), of + few(estimate)
    )


def few(estimate: Estimate) -> str:
    """The mark of an estimate that rests on few rows."""
    return ", few" if estimate.few else ""


def metric_rows(comparison: Comparison) -> list[MetricRow]:
    """The table of what was scored: the primary metric first, then in the comparison's order."""
    scored = comparison.scored
    limit = _shared_limit(scored)
    return [_metric_row(each, limit) for each in scored]


def headline(comparison: Comparison, baseline: str, candidate: str) -> Headline:
    """The verdict on the primary metric; ``baseline`` and ``candidate`` are what to call them."""
    primary = comparison.metric(comparison.primary)
    if primary is None or primary.difference.value is None:
        why = (comparison.undecided or "no row has a score in both").replace(
            "in both", "on both sides"
        )
        return Headline(
            f"{candidate} cannot be compared with {baseline}",
            f"{why[0].upper()}{why[1:]}; {count(comparison.pairs)} rows are paired.",
        )
    metric = known_metric(primary.metric)
    digits, tone = _digits(primary, metric), tone_of(primary, metric)
    limit = _own_limit(primary, metric)
    word = "higher" if metric.better == "neither" else "better"
    left, right = ("a", f"{baseline} {word}"), ("b", f"{candidate} {word}")
    if metric.better == "lower":
        left, right = right, left
    return Headline(
        _sentence(primary, metric, baseline, candidate),
        _numbers(primary, metric, digits, comparison.pairs),
        tone,
        interval_plot(primary.difference, limit, tone, _aloud(primary, metric, digits), (560, 44)),
        left,
        right,
        number(limit, digits, metric.unit),
    )


def tone_of(comparison: MetricComparison, metric: Metric) -> str:
    """``better``, ``worse``, or ``none`` where neither is sure or the metric has no good side."""
    if metric.better == "neither" or comparison.verdict not in {"better", "worse"}:
        return "none"
    return comparison.verdict


def words_of(comparison: MetricComparison, metric: Metric) -> str:
    """The verdict in words; a metric that is better neither way is larger or smaller."""
    if metric.better != "neither":
        return comparison.verdict
    low, high = comparison.difference.low, comparison.difference.high
    if low is None or high is None or low <= 0 <= high:
        return "no difference shown"
    return "larger" if low > 0 else "smaller"


def _sentence(comparison: MetricComparison, metric: Metric, baseline: str, candidate: str) -> str:
    words = words_of(comparison, metric)
    if words == "no difference shown":
        return f"No difference shown between {candidate} and {baseline} on {metric.label}"
    if words == "unclear":
        return f"Unclear whether {candidate} differs from {baseline} on {metric.label}"
    if metric.better == "neither":
        return f"{candidate} has {words} {metric.label} than {baseline}"
    return f"{candidate} is {words} than {baseline} on {metric.label}"


def _numbers(comparison: MetricComparison, metric: Metric, digits: int, pairs: int) -> str:
    sides, n = (comparison.candidate, comparison.baseline), comparison.difference.n
    values = [number(side.value, digits) for side in sides]
    if any(side.n != n for side in sides):
        values = [f"{v} ({count(side.n)} rows)" for v, side in zip(values, sides, strict=True)]
    rows = count(n) if n == pairs else f"{count(n)} of {count(pairs)}"
    sentence = (
        f"{values[0]} against {values[1]}: a difference of "
        f"{signed(comparison.difference.value, digits, metric.unit)} "
        f"(95 % interval {interval(comparison.difference, digits, signs=True)}) "
        f"on the {rows} rows that both scored."
    )
    if comparison.doubt:
        doubt = f"{comparison.doubt[0].upper()}{comparison.doubt[1:]}"
        sentence += f" {doubt} ({probability(comparison.p_value)})."
    if comparison.difference.few:
        sentence += f" Under {FEW} rows the interval is rough."
    if words_of(comparison, metric) == "no difference shown" and comparison.detectable is not None:
        least = number(comparison.detectable, digits, metric.unit)
        sentence += f" A true difference of {least} would have been shown four times in five."
    return sentence


def _metric_row(comparison: MetricComparison, limit: float) -> MetricRow:
    metric = known_metric(comparison.metric)
    digits, tone = _digits(comparison, metric), tone_of(comparison, metric)
    scaled = _scaled(comparison.difference, _scale(comparison, metric))
    return MetricRow(
        name=metric.name,
        label=metric.label,
        about=metric.about,
        direction=direction(metric),
        cells=[cell(metric, side, digits) for side in (comparison.baseline, comparison.candidate)],
        difference=signed(comparison.difference.value, digits, metric.unit),
        difference_interval=interval(comparison.difference, digits, signs=True),
        pairs=f"{count(comparison.difference.n)} pairs{few(comparison.difference)}",
        plot=interval_plot(scaled, limit, tone, _aloud(comparison, metric, digits)),
        record=_record(comparison),
        p_value=probability(comparison.p_value),
        test=comparison.test if comparison.p_value is not None else "",
        detectable=number(comparison.detectable, digits, metric.unit),
        tone=tone,
        sign=_SIGNS[tone],
        words=words_of(comparison, metric),
        doubt=comparison.doubt,
    )


def _record(comparison: MetricComparison) -> str:
    if comparison.wins is None or not comparison.difference.n:
        return NONE
    return f"{count(comparison.wins)} / {count(comparison.ties)} / {count(comparison.losses)}"


def _aloud(comparison: MetricComparison, metric: Metric, digits: int) -> str:
    value = signed(comparison.difference.value, digits, metric.unit)
    if value == NONE:
        return f"{metric.label}: not compared"
    ends = interval(comparison.difference, digits, signs=True)
    return f"{metric.label}: difference {value}, 95 % interval {ends}"


def _digits(comparison: MetricComparison, metric: Metric) -> int:
    return digits_for(
        metric, comparison.baseline, comparison.candidate, difference=comparison.difference
    )


def _scale(comparison: MetricComparison, metric: Metric) -> float:
    """The whole of a difference drawn as a share: the metric's range, else the baseline's mean."""
    return metric.scale or abs(comparison.baseline.value or 0.0) or 1.0


def _scaled(estimate: Estimate, scale: float) -> Estimate:
    value, low, high = (
        None if end is None else end / scale
        for end in (estimate.value, estimate.low, estimate.high)
    )
    return Estimate(value, low, high, estimate.n)


def _shared_limit(comparisons: Sequence[MetricComparison]) -> float:
    """The end of the table's axis: it holds all metrics that have a range; others may reach out."""
    ends = [0.02]
    for each in comparisons:
        metric = METRICS[each.metric]
        if metric.scale:
            part = _scaled(each.difference, metric.scale)
            ends += [abs(end) for end in (part.value, part.low, part.high) if end is not None]
    return min(nice_above(max(ends)), 1.0)


def _own_limit(comparison: MetricComparison, metric: Metric) -> float:
    part = comparison.difference
    reach = nice_above(
        max(abs(end) for end in (part.value, part.low, part.high) if end is not None)
    )
    return min(reach, metric.scale) if metric.scale else reach
