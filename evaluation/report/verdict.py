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


def cell(metric: Metric, found: Estimate, digits: int) -> Cell:
    """One side's estimate."""
    of = share(found) if metric.kind == "rate" else f"{count(found.n)} rows"
    return Cell(number(found.value, digits, metric.unit), interval(found, digits), of + few(found))


def few(found: Estimate) -> str:
    """The mark of an estimate that rests on few rows."""
    return ", few" if found.few else ""


def metric_rows(comparison: Comparison) -> list[MetricRow]:
    """The table of what was scored: the primary metric first, then in the comparison's order."""
    found = comparison.scored
    limit = _shared_limit(found)
    return [_metric_row(each, limit) for each in found]


def headline(comparison: Comparison, baseline: str, candidate: str) -> Headline:
    """The verdict on the primary metric; ``baseline`` and ``candidate`` are what to call them."""
    found = comparison.metric(comparison.primary)
    if found is None or found.difference.value is None:
        why = (comparison.undecided or "no row has a score in both").replace(
            "in both", "on both sides"
        )
        return Headline(
            f"{candidate} cannot be compared with {baseline}",
            f"{why[0].upper()}{why[1:]}; {count(comparison.pairs)} rows are paired.",
        )
    metric = known_metric(found.metric)
    digits, tone = _digits(found, metric), tone_of(found, metric)
    limit = _own_limit(found, metric)
    word = "higher" if metric.better == "neither" else "better"
    left, right = ("a", f"{baseline} {word}"), ("b", f"{candidate} {word}")
    if metric.better == "lower":
        left, right = right, left
    return Headline(
        _sentence(found, metric, baseline, candidate),
        _numbers(found, metric, digits, comparison.pairs),
        tone,
        interval_plot(found.difference, limit, tone, _aloud(found, metric, digits), (560, 44)),
        left,
        right,
        number(limit, digits, metric.unit),
    )


def tone_of(found: MetricComparison, metric: Metric) -> str:
    """``better``, ``worse``, or ``none`` where neither is sure or the metric has no good side."""
    if metric.better == "neither" or found.verdict not in {"better", "worse"}:
        return "none"
    return found.verdict


def words_of(found: MetricComparison, metric: Metric) -> str:
    """The verdict in words; a metric that is better neither way is larger or smaller."""
    if metric.better != "neither":
        return found.verdict
    low, high = found.difference.low, found.difference.high
    if low is None or high is None or low <= 0 <= high:
        return "no difference shown"
    return "larger" if low > 0 else "smaller"


def _sentence(found: MetricComparison, metric: Metric, baseline: str, candidate: str) -> str:
    words = words_of(found, metric)
    if words == "no difference shown":
        return f"No difference shown between {candidate} and {baseline} on {metric.label}"
    if words == "unclear":
        return f"Unclear whether {candidate} differs from {baseline} on {metric.label}"
    if metric.better == "neither":
        return f"{candidate} has {words} {metric.label} than {baseline}"
    return f"{candidate} is {words} than {baseline} on {metric.label}"


def _numbers(found: MetricComparison, metric: Metric, digits: int, pairs: int) -> str:
    sides, n = (found.candidate, found.baseline), found.difference.n
    values = [number(side.value, digits) for side in sides]
    if any(side.n != n for side in sides):
        values = [f"{v} ({count(side.n)} rows)" for v, side in zip(values, sides, strict=True)]
    rows = count(n) if n == pairs else f"{count(n)} of {count(pairs)}"
    sentence = (
        f"{values[0]} against {values[1]}: a difference of "
        f"{signed(found.difference.value, digits, metric.unit)} "
        f"(95 % interval {interval(found.difference, digits, signs=True)}) "
        f"on the {rows} rows that both scored."
    )
    if found.doubt:
        sentence += f" {found.doubt[0].upper()}{found.doubt[1:]} ({probability(found.p_value)})."
    if found.difference.few:
        sentence += f" Under {FEW} rows the interval is rough."
    if words_of(found, metric) == "no difference shown" and found.detectable is not None:
        least = number(found.detectable, digits, metric.unit)
        sentence += f" A true difference of {least} would have been shown four times in five."
    return sentence


def _metric_row(found: MetricComparison, limit: float) -> MetricRow:
    metric = known_metric(found.metric)
    digits, tone = _digits(found, metric), tone_of(found, metric)
    scaled = _scaled(found.difference, _scale(found, metric))
    return MetricRow(
        name=metric.name,
        label=metric.label,
        about=metric.about,
        direction=direction(metric),
        cells=[cell(metric, side, digits) for side in (found.baseline, found.candidate)],
        difference=signed(found.difference.value, digits, metric.unit),
        difference_interval=interval(found.difference, digits, signs=True),
        pairs=f"{count(found.difference.n)} pairs{few(found.difference)}",
        plot=interval_plot(scaled, limit, tone, _aloud(found, metric, digits)),
        record=_record(found),
        p_value=probability(found.p_value),
        test=found.test if found.p_value is not None else "",
        detectable=number(found.detectable, digits, metric.unit),
        tone=tone,
        sign=_SIGNS[tone],
        words=words_of(found, metric),
        doubt=found.doubt,
    )


def _record(found: MetricComparison) -> str:
    if found.wins is None or not found.difference.n:
        return NONE
    return f"{count(found.wins)} / {count(found.ties)} / {count(found.losses)}"


def _aloud(found: MetricComparison, metric: Metric, digits: int) -> str:
    value = signed(found.difference.value, digits, metric.unit)
    if value == NONE:
        return f"{metric.label}: not compared"
    ends = interval(found.difference, digits, signs=True)
    return f"{metric.label}: difference {value}, 95 % interval {ends}"


def _digits(found: MetricComparison, metric: Metric) -> int:
    return digits_for(metric, found.baseline, found.candidate, difference=found.difference)


def _scale(found: MetricComparison, metric: Metric) -> float:
    """The whole of a difference drawn as a share: the metric's range, else the baseline's mean."""
    return metric.scale or abs(found.baseline.value or 0.0) or 1.0


def _scaled(found: Estimate, scale: float) -> Estimate:
    value, low, high = (
        None if end is None else end / scale for end in (found.value, found.low, found.high)
    )
    return Estimate(value, low, high, found.n)


def _shared_limit(found: Sequence[MetricComparison]) -> float:
    """The end of the table's axis: it holds all metrics that have a range; others may reach out."""
    ends = [0.02]
    for each in found:
        metric = METRICS[each.metric]
        if metric.scale:
            part = _scaled(each.difference, metric.scale)
            ends += [abs(end) for end in (part.value, part.low, part.high) if end is not None]
    return min(nice_above(max(ends)), 1.0)


def _own_limit(found: MetricComparison, metric: Metric) -> float:
    part = found.difference
    reach = nice_above(
        max(abs(end) for end in (part.value, part.low, part.high) if end is not None)
    )
    return min(reach, metric.scale) if metric.scale else reach
