"""The one place that words numbers, intervals and verdicts, for terminal, HTML and Markdown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from evaluation.compare.comparison import Comparison, MetricComparison
from evaluation.compare.statistics import FEW, Estimate
from evaluation.metrics import METRICS, Metric

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


@dataclass(frozen=True)
class MetricWords:
    """One metric of a run, or of a comparison, in words; its figures have as many digits."""

    metric: Metric
    estimates: tuple[Estimate, ...]
    comparison: MetricComparison | None = None
    notation: Notation = PAGE

    @classmethod
    def of(cls, comparison: MetricComparison, notation: Notation = PAGE) -> MetricWords:
        """The words for one metric of a comparison."""
        sides = (comparison.baseline, comparison.candidate)
        return cls(METRICS[comparison.metric], sides, comparison, notation)

    @cached_property
    def digits(self) -> int:
        """The decimals of all its figures."""
        difference = None if self.comparison is None else self.comparison.difference
        return digits_for(self.metric, *self.estimates, difference=difference)

    @property
    def compared(self) -> MetricComparison:
        """The comparison that it is of."""
        assert self.comparison is not None  # noqa: S101 - asked of comparisons alone
        return self.comparison

    @property
    def label(self) -> str:
        """The metric's name for people."""
        return self.metric.label

    @property
    def about(self) -> str:
        """Which way is better, and what the metric is."""
        return "; ".join(filter(None, (direction(self.metric), self.metric.about)))

    @property
    def cells(self) -> list[Cell]:
        """Each side's mean or rate."""
        rate = self.metric.kind == "rate"
        return [
            Cell(
                self._number(side.value, self.metric.unit),
                interval(side, self.digits, self.notation),
                (share(side) if rate else f"{count(side.n)} rows") + few(side),
            )
            for side in self.estimates
        ]

    @property
    def difference(self) -> str:
        """The difference of the pairs, with its sign."""
        return self._number(self.compared.difference.value, self.metric.unit, signs=True)

    @property
    def difference_interval(self) -> str:
        """The interval of the difference."""
        return interval(self.compared.difference, self.digits, self.notation, signs=True)

    @property
    def pairs(self) -> str:
        """The number of pairs."""
        return f"{count(self.compared.difference.n)} pairs{few(self.compared.difference)}"

    @property
    def record(self) -> str:
        """Rows won, the same, and lost."""
        found = self.compared
        if found.wins is None or not found.difference.n:
            return self.notation.none
        return "/".join(count(n, self.notation) for n in (found.wins, found.ties, found.losses))

    @property
    def p_value(self) -> str:
        """The p value of the test."""
        return probability(self.compared.p_value)

    @property
    def test(self) -> str:
        """The test that was made, if one was."""
        return self.compared.test if self.compared.p_value is not None else ""

    @property
    def detectable(self) -> str:
        """The difference that these pairs would have shown."""
        return self._number(self.compared.detectable, self.metric.unit)

    @property
    def tone(self) -> str:
        """``better``, ``worse``, or ``none`` where neither is sure or neither way is good."""
        decided = self.compared.verdict in {"better", "worse"}
        return self.compared.verdict if decided and self.metric.better != "neither" else "none"

    @property
    def sign(self) -> str:
        """The verdict as one character, for those who see no colours."""
        return {"better": "✓", "worse": "✗"}.get(self.tone, "○")

    @property
    def verdict(self) -> str:
        """The verdict; a metric that is better neither way is larger or smaller."""
        difference = self.compared.difference
        if self.metric.better != "neither":
            return self.compared.verdict
        if not difference.excludes_zero:
            return _UNDECIDED
        return "larger" if (difference.low or 0.0) > 0 else "smaller"

    @property
    def doubt(self) -> str:
        """The reason why the verdict is unclear."""
        return self.compared.doubt

    @property
    def aloud(self) -> str:
        """The difference as a reader of pictures speaks it."""
        if self.compared.difference.value is None:
            return f"{self.label}: not compared"
        ends = f"95 % interval {self.difference_interval}"
        return f"{self.label}: difference {self.difference}, {ends}"

    def sentence(self, baseline: str, candidate: str) -> str:
        """The verdict as a sentence about the two, called so."""
        if self.verdict == _UNDECIDED:
            return f"{_UNDECIDED} between {candidate} and {baseline} on {self.label}"
        if self.verdict == "unclear":
            return f"unclear whether {candidate} differs from {baseline} on {self.label}"
        if self.metric.better == "neither":
            return f"{candidate} has {self.verdict} {self.label} than {baseline}"
        return f"{candidate} is {self.verdict} than {baseline} on {self.label}"

    def numbers(self, pairs: int) -> str:
        """Both values with their rows where these differ, the difference, the rows it is over."""
        n, difference = self.compared.difference.n, self.compared.difference
        values = self._values(" (n={})")
        change = with_interval(difference, self.metric, self.digits, self.notation, signs=True)
        rows = f"n={n}{'' if n == pairs else f' of {pairs}'}{few(difference, ' (few)')}"
        doubt = f": {self.doubt} ({self.p_value})" if self.doubt else ""
        return f"{' -> '.join(values)}, {change}, {rows}{doubt}"

    def explained(self, pairs: int) -> str:
        """The same numbers in whole sentences."""
        difference, n = self.compared.difference, count(self.compared.difference.n)
        before, after = self._values(" ({} rows)")
        rows = n if difference.n == pairs else f"{n} of {count(pairs)}"
        sentences = [
            f"{after} against {before}: a difference of {self.difference} (95 % interval "
            f"{self.difference_interval}) on the {rows} rows that both scored."
        ]
        if self.doubt:
            sentences.append(f"{upper(self.doubt)} ({self.p_value}).")
        if difference.few:
            sentences.append(f"Under {FEW} rows the interval is rough.")
        if self.verdict == _UNDECIDED and self.compared.detectable is not None:
            least = f"A true difference of {self.detectable}"
            sentences.append(f"{least} would have been shown four times in five.")
        return " ".join(sentences)

    def _values(self, rows: str) -> list[str]:
        values = [self._number(side.value, self.metric.unit) for side in self.estimates]
        if any(side.n != self.compared.difference.n for side in self.estimates):
            ns = (count(side.n, self.notation) for side in self.estimates)
            values = [value + rows.format(n) for value, n in zip(values, ns, strict=True)]
        return values

    def _number(self, value: float | None, unit: str = "", *, signs: bool = False) -> str:
        return number(value, self.digits, unit, self.notation, signs=signs)


def verdict_sentence(comparison: Comparison) -> str:
    """The verdict on the primary metric in one line."""
    names = comparison.baseline.name, comparison.candidate.name
    primary = comparison.metric(comparison.primary)
    if primary is None:
        return f"{names[1]} against {names[0]}: {comparison.undecided}"
    words = MetricWords.of(primary, TERMINAL)
    return f"{words.sentence(*names)}: {words.numbers(comparison.pairs)}"
