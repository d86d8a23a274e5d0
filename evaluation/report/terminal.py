"""A comparison for the terminal: the verdict first, then what it rests on."""

from __future__ import annotations

import re
from collections.abc import Iterable

from evaluation.compare.compare import estimate_scores, side_of
from evaluation.compare.comparison import (
    FEW,
    FEWEST,
    Comparison,
    Estimate,
    MetricComparison,
    Side,
    decimals,
)
from evaluation.compare.notes import notes_of, why_undecided
from evaluation.metrics import METRICS, Metric, deciding_metric
from evaluation.report.aligned import aligned, stacked
from evaluation.results.folder import RunFolder, read_table
from setup.common import console

NOTHING = "-"
_NAMED = 5  # ids of a list that are named
_DIGITS = {1.0: 2, 5.0: 2, 100.0: 1}
_HEADER = ["metric", "baseline", "candidate", "difference", "n", "won/same/lost", "p"]
_HEADER += ["detectable", ""]
_RIGHT = {4, 5, 6, 7}
_RIGHT_STACKED = {3}  # the verdict, and p below it


def show_comparison(comparison: Comparison) -> None:
    """Print ``comparison_text``, its table as wide as the console."""
    console.out.print(comparison_text(comparison, console.out.width), markup=False)


def show_run(run: RunFolder, *, seed: int = 0, resamples: int = 2000) -> None:
    """Print the rows and the metrics of one run, with their intervals."""
    table = read_table(run)
    estimates = estimate_scores(table, seed=seed, resamples=resamples)
    rows = [
        [METRICS[name].label, show_estimate(estimate, METRICS[name]), _count(estimate)]
        for name, estimate in estimates.items()
    ]
    deciding = deciding_metric(
        {name: estimate.n for name, estimate in estimates.items()}, table.answered
    )
    lines = [
        _rows(side_of(table)),
        _sentence_of_one(METRICS[deciding], estimates[deciding], table.answered)
        if deciding
        else why_undecided(table),
        *(f"note: {note}" for note in [*notes_of(table), *_few(estimates.values())]),
        "",
        *aligned([["metric", "mean", "n"], *rows], {2}),
    ]
    console.out.print("\n".join(lines), markup=False)


def _sentence_of_one(metric: Metric, estimate: Estimate, answered: int) -> str:
    of = "" if estimate.n == answered else f" of {answered}"
    few = " (few)" if estimate.few else ""
    return f"{metric.label} {show_estimate(estimate, metric)} on {estimate.n}{of} rows{few}"


def _count(estimate: Estimate) -> str:
    """The rows that an estimate is of, marked where they are few."""
    return f"few {estimate.n}" if estimate.few else str(estimate.n)


def _few(estimates: Iterable[Estimate]) -> list[str]:
    """The meaning of the mark, where one stands."""
    if not any(estimate.few for estimate in estimates):
        return []
    return [
        f"few: under {FEW} rows, whose intervals are rough; under {FEWEST} nothing can be better"
    ]


def comparison_text(comparison: Comparison, width: int | None = None) -> str:
    """Write what ``python -m evaluation compare`` prints: sentence, rows, table, gaps, regressions.

    A metric is a line of about 130 characters, or lines that fit ``width``: nothing is left out.
    """
    ordered = comparison.scored
    lines = [
        verdict_sentence(comparison),
        f"  {_rows(comparison.baseline)}",
        f"  {_rows(comparison.candidate)}",
        "",
        *_table([_cells(metric) for metric in ordered], width),
        "",
        *_not_scored(comparison),
        *gap_lines(comparison),
        *(f"note: {note}" for note in _few(each.difference for each in ordered)),
        *_regressions(comparison),
    ]
    return "\n".join(lines).rstrip()


def verdict_sentence(comparison: Comparison) -> str:
    """The verdict on the primary metric in one line."""
    names = comparison.candidate.name, comparison.baseline.name
    primary = comparison.metric(comparison.primary)
    if primary is None:
        return f"{names[0]} against {names[1]}: {comparison.undecided}"
    label = METRICS[primary.metric].label
    numbers = _headline_numbers(primary, comparison.pairs)
    if primary.verdict == "unclear":
        doubt = f"{numbers}: {primary.doubt} (p={_p_value(primary.p_value)})"
        return f"unclear whether {names[0]} differs from {names[1]} on {label}: {doubt}"
    if primary.verdict != "no difference shown":
        return f"{names[0]} is {primary.verdict} than {names[1]} on {label}: {numbers}"
    return f"no difference shown between {names[0]} and {names[1]} on {label}: {numbers}"


def _headline_numbers(comparison: MetricComparison, pairs: int) -> str:
    """Both values with their rows where these differ, the difference, the rows it is over."""
    baseline, candidate, difference, _ = _numbers(comparison)
    values = [text.partition(" [")[0] for text in (baseline, candidate)]
    if (
        comparison.baseline.n != comparison.difference.n
        or comparison.candidate.n != comparison.difference.n
    ):
        sides = (comparison.baseline, comparison.candidate)
        values = [f"{v} (n={side.n})" for v, side in zip(values, sides, strict=True)]
    of = "" if comparison.difference.n == pairs else f" of {pairs}"
    few = " (few)" if comparison.difference.few else ""
    return f"{' -> '.join(values)}, {difference}, n={comparison.difference.n}{of}{few}"


def _not_scored(comparison: Comparison) -> list[str]:
    labels = [METRICS[name].label for name in comparison.not_scored]
    return [f"no row has a score of {', '.join(labels)}"] if labels else []


def gap_lines(comparison: Comparison) -> list[str]:
    """List what the comparison does not cover, a line for each kind; nothing where it is whole."""
    baseline, candidate = comparison.baseline.name, comparison.candidate.name
    lists = {
        f"only in {baseline}": comparison.only_baseline,
        f"only in {candidate}": comparison.only_candidate,
        f"failed in {baseline}": comparison.failed_baseline,
        f"failed in {candidate}": comparison.failed_candidate,
    }
    lines = [f"not compared, {label}: {_named(ids)}" for label, ids in lists.items() if ids]
    return [*lines, *(f"note: {note}" for note in comparison.notes)]


def show_estimate(
    estimate: Estimate, metric: Metric, digits: int | None = None, *, signed: bool = False
) -> str:
    """A value and its interval: ``0.88 [0.82, 0.92]``; with signs for a difference.

    ``digits`` are as many as the metric's scale asks for unless told.
    """
    if digits is None:
        digits = _digits(metric, estimate)
    if estimate.value is None:
        return NOTHING
    text = _number(estimate.value, digits, signed) + (f" {metric.unit}" if metric.unit else "")
    if estimate.low is None or estimate.high is None:
        return text
    low, high = (_number(end, digits, signed) for end in (estimate.low, estimate.high))
    return f"{text} [{low}, {high}]"


def _number(value: float, digits: int, signed: bool) -> str:
    text = f"{value:{'+' if signed else ''},.{digits}f}"
    return text if text.strip("+-0.,") else text.lstrip("+-")


def _digits(metric: Metric, *estimates: Estimate, difference: Estimate | None = None) -> int:
    """As many as the scale asks for, and more where the figures need them."""
    largest = max(abs(estimate.value or 0.0) for estimate in estimates)
    usual = _DIGITS.get(metric.scale or 0.0, 1 if largest >= 10 else 2)
    return decimals(usual, *estimates, difference=difference)


def _numbers(comparison: MetricComparison) -> tuple[str, str, str, str]:
    """Baseline, candidate, difference and detectable difference, all with as many digits."""
    metric = METRICS[comparison.metric]
    digits = _digits(
        metric, comparison.baseline, comparison.candidate, difference=comparison.difference
    )
    detectable = Estimate(comparison.detectable, None, None, comparison.difference.n)
    return (
        show_estimate(comparison.baseline, metric, digits),
        show_estimate(comparison.candidate, metric, digits),
        show_estimate(comparison.difference, metric, digits, signed=True),
        show_estimate(detectable, metric, digits),
    )


def _table(rows: list[list[str]], width: int | None) -> list[str]:
    """A line for each metric, or two of four columns where that is wider than ``width``."""
    lines = aligned([_HEADER, *rows], _RIGHT)
    if width is None or max(map(len, lines)) <= width:
        return lines
    return stacked([_two_lines(cells) for cells in [_HEADER, *rows]], _RIGHT_STACKED, width)


def _two_lines(cells: list[str]) -> tuple[list[str], list[str]]:
    """Each figure of the candidate below the one it is read beside."""
    label, baseline, candidate, difference, n, won, p, detectable, verdict = cells
    return [label, baseline, candidate, verdict], [f"{n} {won}", difference, detectable, p]


def _cells(comparison: MetricComparison) -> list[str]:
    baseline, candidate, difference, detectable = _numbers(comparison)
    return [
        METRICS[comparison.metric].label,
        baseline,
        candidate,
        difference,
        _count(comparison.difference),
        NOTHING
        if comparison.wins is None or not comparison.difference.n
        else f"{comparison.wins}/{comparison.ties}/{comparison.losses}",
        _p_value(comparison.p_value),
        detectable,
        "" if comparison.verdict == "no difference shown" else comparison.verdict,
    ]


def _p_value(value: float | None) -> str:
    if value is None:
        return NOTHING
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _rows(side: Side) -> str:
    counts = " ".join(f"{name}={count}" for name, count in side.counts.items())
    return f"{side.name}: {counts}"


def _regressions(comparison: Comparison) -> list[str]:
    primary = comparison.metric(comparison.primary)
    if primary is None or primary.losses is None:
        return []
    named = f": {_named(comparison.worst, primary.losses)}" if primary.losses else ""
    label = METRICS[primary.metric].label
    return [f"{primary.losses} of {primary.difference.n} rows worse on {label}{named}"]


def _named(ids: list[str], count: int = 0) -> str:
    count = count or len(ids)
    rest = f", and {count - _NAMED:,} more" if count > _NAMED else ""
    return ", ".join(_short(row_id) for row_id in ids[:_NAMED]) + rest


def _short(row_id: str) -> str:
    """Twelve digits of a hash are enough; a name of the user's own is shown whole."""
    return f"{row_id[:12]}…" if re.fullmatch(r"[0-9a-f]{16,}", row_id) else row_id
