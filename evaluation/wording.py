"""The one place that words numbers, intervals and verdicts, for terminal, HTML and Markdown."""

from __future__ import annotations

import math
from typing import NamedTuple

from evaluation.compare.comparison import Comparison, MetricComparison
from evaluation.compare.statistics import FEW, Estimate
from evaluation.metrics import GENERAL, METRICS, Metric

UNIT_SPACE = "\u00a0"
_DIGITS = {1.0: 2, 5.0: 2, 100.0: 1}
_NO_WIDTH = 1e-9  # what rounding leaves of an interval of equal values
_MOST_DIGITS = 9
_UNDECIDED = "no difference shown"


class Notation(NamedTuple):
    """The signs of a place where numbers are read: plain ones, or a typesetter's."""

    none: str
    minus: str
    apart: str
    space: str


TERMINAL = Notation("-", "-", ",", " ")
PAGE = Notation("\u2013", "\u2212", UNIT_SPACE, UNIT_SPACE)


def digits_for(metric: Metric, *estimates: Estimate, difference: Estimate | None = None) -> int:
    """Return how many decimals the figures of one row are written with, wherever they are read.

    As many as the metric's scale asks for, and so many more that an interval is wider than one step
    of the last digit, and that a ``difference`` whose interval excludes zero does not read as zero.
    """
    largest = max((abs(estimate.value or 0.0) for estimate in estimates), default=0.0)
    digits = _DIGITS.get(metric.scale or 0.0, 1 if largest >= 10 else 2)
    sizes = []
    for estimate in (*estimates, *([difference] if difference else [])):
        if estimate.low is not None and estimate.high is not None:
            sizes.append(estimate.high - estimate.low)
            if estimate is difference and estimate.excludes_zero:
                sizes += [abs(estimate.low), abs(estimate.high)]
    needed = [-math.floor(math.log10(size)) for size in sizes if size > _NO_WIDTH]
    return min(max([digits, *needed]), _MOST_DIGITS)


def number(
    value: float | None,
    digits: int,
    unit: str = "",
    notation: Notation = PAGE,
    *,
    signs: bool = False,
) -> str:
    """``value`` with ``digits`` decimals, with ``signs`` a plus above zero; a dash for none."""
    if value is None or not math.isfinite(value):
        return notation.none
    text = f"{value:{'+' if signs else ''},.{digits}f}"
    if not text.strip("+-0.,"):
        text = text.lstrip("+-")
    text = text.replace(",", notation.apart).replace("-", notation.minus)
    return f"{text}{notation.space}{unit}" if unit else text


def mean_of(name: str, value: float, between: str = " ") -> str:
    """The metric ``name`` and its mean, of which nothing else is known: ``F1 0.91``."""
    metric = METRICS.get(name) or Metric(name, name, "neither", scale=None)
    digits = digits_for(metric, Estimate(value, None, None, 0))
    return f"{metric.label}{between}{number(value, digits, metric.unit, TERMINAL)}"


def interval(
    estimate: Estimate, digits: int, notation: Notation = PAGE, *, signs: bool = False
) -> str:
    """The interval of an estimate: ``[0.81, 0.93]``; a dash where there is none."""
    if estimate.low is None or estimate.high is None:
        return notation.none
    ends = (number(end, digits, "", notation, signs=signs) for end in (estimate.low, estimate.high))
    return f"[{', '.join(ends)}]"


def with_interval(
    estimate: Estimate,
    metric: Metric,
    digits: int | None = None,
    notation: Notation = TERMINAL,
    *,
    signs: bool = False,
) -> str:
    """A value and its interval: ``0.88 [0.82, 0.92]``; with signs for a difference."""
    digits = digits_for(metric, estimate) if digits is None else digits
    value = number(estimate.value, digits, metric.unit, notation, signs=signs)
    if estimate.low is None:
        return value
    return f"{value} {interval(estimate, digits, notation, signs=signs)}"


def count(value: float | None, notation: Notation = PAGE) -> str:
    """A whole number with its thousands apart."""
    return number(value, 0, "", notation)


def share(estimate: Estimate) -> str:
    """A rate as a count of rows: ``13 of 16``; nothing without rows."""
    if estimate.value is None:
        return ""
    return f"{count(round(estimate.value * estimate.n))} of {count(estimate.n)}"


def probability(value: float | None) -> str:
    """A p value: ``p = 0.034``, ``p < 0.001``."""
    if value is None:
        return PAGE.none
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def duration(seconds: float | None) -> str:
    """``41.2 s``, ``4 min 12 s``, ``2 h 5 min``."""
    if seconds is None:
        return PAGE.none
    if seconds < 60:
        return number(seconds, 1, "s")
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{UNIT_SPACE}min {rest}{UNIT_SPACE}s"
    return f"{minutes // 60}{UNIT_SPACE}h {minutes % 60}{UNIT_SPACE}min"


def few(estimate: Estimate, mark: str = ", few") -> str:
    """The mark of an estimate that rests on few rows."""
    return mark if estimate.few else ""


def upper(sentence: str) -> str:
    """``sentence`` with a capital at its beginning."""
    return f"{sentence[:1].upper()}{sentence[1:]}"


def direction(metric: Metric) -> str:
    """In words which way is better."""
    return {"higher": "higher is better", "lower": "lower is better"}.get(metric.better, "")


class Cell(NamedTuple):
    """A mean or a rate as a table has it; ``of`` is "13 of 16" or how many rows."""

    value: str
    interval: str
    of: str


class MetricWords:
    """One metric of a run in words: each side's mean or rate is one of ``cells``.

    Its figures have as many ``digits``; ``about`` says which way is better, and what it is.
    """

    def __init__(
        self,
        metric: Metric,
        *estimates: Estimate,
        difference: Estimate | None = None,
        notation: Notation = PAGE,
    ) -> None:
        self.metric, self.estimates, self.notation = metric, estimates, notation
        self.digits = digits_for(metric, *estimates, difference=difference)
        self.about = "; ".join(filter(None, (direction(metric), metric.about)))
        self.cells = [
            Cell(
                self._number(side.value),
                interval(side, self.digits, notation),
                (share(side) if metric.kind == "rate" else f"{count(side.n)} rows") + few(side),
            )
            for side in estimates
        ]

    def _number(self, value: float | None, *, signs: bool = False) -> str:
        return number(value, self.digits, self.metric.unit, self.notation, signs=signs)


class ComparedWords(MetricWords):
    """One metric of a comparison in words.

    ``record`` counts rows won, the same, and lost; ``tone`` is ``better``, ``worse``, or ``none``
    where neither is sure or neither way is good, ``sign`` the same for those who see no colours. A
    metric that is better neither way has as ``verdict`` that it is larger or smaller. ``aloud`` is
    the difference as a reader of pictures speaks it.
    """

    def __init__(self, comparison: MetricComparison, notation: Notation = PAGE) -> None:
        metric, change = METRICS[comparison.metric], comparison.difference
        sides = (comparison.baseline, comparison.candidate)
        super().__init__(metric, *sides, difference=change, notation=notation)
        self.comparison = comparison
        self.difference = self._number(change.value, signs=True)
        self.interval = interval(change, self.digits, notation, signs=True)
        self.detectable = self._number(comparison.detectable)
        self.pairs = f"{count(change.n)} pairs{few(change)}"
        rows = (comparison.wins, comparison.ties, comparison.losses)
        is_won = comparison.wins is not None and change.n
        self.record = "/".join(count(n, notation) for n in rows) if is_won else notation.none
        self.p_value = probability(comparison.p_value)
        self.test = comparison.test if comparison.p_value is not None else ""
        self.verdict: str = comparison.verdict
        if metric.better == "neither":
            moved = "larger" if (change.value or 0.0) > 0 else "smaller"
            self.verdict = moved if change.excludes_zero else _UNDECIDED
        self.tone = self.verdict if self.verdict in {"better", "worse"} else "none"
        self.sign = {"better": "✓", "worse": "✗"}.get(self.tone, "○")
        ends = f"difference {self.difference}, 95 % interval {self.interval}"
        self.aloud = f"{metric.label}: {'not compared' if change.value is None else ends}"

    def sentence(self, baseline: str, candidate: str) -> str:
        """The verdict as a sentence about the two, called so."""
        label = self.metric.label
        if self.verdict == _UNDECIDED:
            return f"{_UNDECIDED} between {candidate} and {baseline} on {label}"
        if self.verdict == "unclear":
            return f"unclear whether {candidate} differs from {baseline} on {label}"
        if self.metric.better == "neither":
            return f"{candidate} has {self.verdict} {label} than {baseline}"
        return f"{candidate} is {self.verdict} than {baseline} on {label}"

    def numbers(self, pairs: int) -> str:
        """Both values with their rows where these differ, the difference, the rows it is over."""
        difference, doubt = self.comparison.difference, self.comparison.doubt
        change = with_interval(difference, self.metric, self.digits, self.notation, signs=True)
        of = "" if difference.n == pairs else f" of {pairs}"
        rows = f"n={difference.n}{of}{few(difference, ' (few)')}"
        why = f": {doubt} ({self.p_value})" if doubt else ""
        return f"{' -> '.join(self._values(' (n={})'))}, {change}, {rows}{why}"

    def explained(self, pairs: int) -> str:
        """Word the numbers in whole sentences."""
        difference, doubt = self.comparison.difference, self.comparison.doubt
        before, after = self._values(" ({} rows)")
        of = "" if difference.n == pairs else f" of {count(pairs)}"
        sentences = [
            f"{after} against {before}: a difference of {self.difference} (95 % interval "
            f"{self.interval}) on the {count(difference.n)}{of} rows that both scored."
        ]
        if doubt:
            sentences.append(f"{upper(doubt)} ({self.p_value}).")
        if difference.few:
            sentences.append(f"Under {FEW} rows the interval is rough.")
        if self.verdict == _UNDECIDED and self.comparison.detectable is not None:
            least = f"A true difference of {self.detectable}"
            sentences.append(f"{least} would have been shown four times in five.")
        return " ".join(sentences)

    def _values(self, rows: str) -> list[str]:
        values, n = [cell.value for cell in self.cells], self.comparison.difference.n
        if all(side.n == n for side in self.estimates):
            return values
        counts = (count(side.n, self.notation) for side in self.estimates)
        return [value + rows.format(n) for value, n in zip(values, counts, strict=True)]


def verdict_sentence(comparison: Comparison) -> str:
    """The verdict on the primary metric in one line."""
    names = comparison.baseline.name, comparison.candidate.name
    primary = comparison.metric(comparison.primary)
    if primary is None:
        return f"{names[1]} against {names[0]}: {comparison.undecided}"
    words = ComparedWords(primary, TERMINAL)
    sentence = f"{words.sentence(*names)}{price(comparison, TERMINAL)}"
    return f"{sentence}: {words.numbers(comparison.pairs)}"


def price(comparison: Comparison, notation: Notation = PAGE) -> str:
    """The general questions as the end of the verdict's sentence; nothing where none are paired."""
    general = comparison.metric(GENERAL)
    if general is None or not general.difference.n or comparison.primary == GENERAL:
        return ""
    words = ComparedWords(general, notation)
    n = f"n={count(general.difference.n, notation)}"
    if words.verdict == _UNDECIDED:
        return f", no loss on {words.metric.label} shown ({n})"
    before, after = (cell.value for cell in words.cells)
    return f", {words.verdict} on {words.metric.label} (from {before} to {after}, {n})"
