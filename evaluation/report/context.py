"""Everything the templates print, worked out; they only place it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from evaluation.compare.compare import estimate_scores
from evaluation.compare.comparison import Comparison, Estimate
from evaluation.compare.notes import notes_of, why_undecided
from evaluation.gate import GateResult
from evaluation.metrics import METRICS, Metric, deciding_metric, known_metric
from evaluation.report.examples import AT_MOST, Example, ReportSide, examples, lowest
from evaluation.report.failures import ErrorGroup, Gap, error_groups, gaps
from evaluation.report.figures import Figure, Latency, direction, figures, latency
from evaluation.report.provenance import Group, commands, provenance
from evaluation.report.verdict import Headline, MetricRow, cell, few, headline, metric_rows
from evaluation.report.wording import count, digits_for, interval, number

_SEED, _RESAMPLES = 0, 2_000


@dataclass(frozen=True)
class Section:
    """Rows to read, under a heading."""

    anchor: str
    title: str
    about: str
    metric: str
    examples: list[Example]


@dataclass(frozen=True)
class Context:
    """The report. ``sides`` are the baseline and the candidate, or the only run."""

    title: str
    headline: Headline
    sides: list[ReportSide]
    metrics: list[MetricRow]
    figures: list[Figure]
    latency: Latency | None
    sections: list[Section]
    errors: list[ErrorGroup]
    provenance: list[Group]
    commands: list[tuple[str, str]]
    gates: list[GateResult] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    pairs: str = ""
    intervals: str = ""
    not_scored: str = ""

    @property
    def compared(self) -> bool:
        """Tell whether there are two sides."""
        return len(self.sides) == 2

    @property
    def gates_failed(self) -> int:
        """The number of gates that do not hold."""
        return sum(not gate.passed for gate in self.gates)


def comparison_context(
    comparison: Comparison, baseline: ReportSide, candidate: ReportSide, gates: Sequence[GateResult]
) -> Context:
    """The report of ``candidate`` against ``baseline``."""
    sides = [baseline, candidate]
    labels = [side.label for side in sides]
    estimates = {
        each.metric: {"a": each.baseline, "b": each.candidate} for each in comparison.metrics
    }
    return Context(
        title=f"{labels[1]} against {labels[0]}",
        headline=headline(comparison, *labels),
        sides=sides,
        metrics=metric_rows(comparison),
        figures=figures(sides, estimates),
        latency=latency(sides),
        sections=_changes(comparison, sides) if comparison.primary else [],
        errors=error_groups(sides),
        provenance=provenance(sides),
        commands=commands(sides),
        gates=list(gates),
        gaps=gaps(comparison, *labels),
        warnings=_failed(sides) + comparison.notes,
        pairs=count(comparison.pairs),
        intervals=f"{count(comparison.resamples)} resamples, seed {comparison.seed}",
        not_scored=", ".join(METRICS[name].label for name in comparison.not_scored),
    )


def _changes(comparison: Comparison, sides: list[ReportSide]) -> list[Section]:
    metric, name = known_metric(comparison.primary), sides[-1].label
    changes = [
        ("wins", "Biggest wins", "gained", comparison.best),
        ("losses", "Biggest losses", "lost", comparison.worst),
    ]
    return [
        Section(
            anchor,
            title,
            f"Where {name} {words} most by {metric.label}, at most {AT_MOST} rows",
            metric.label,
            examples(sides, ids, metric),
        )
        for anchor, title, words, ids in changes
    ]


def single_context(side: ReportSide, gates: Sequence[GateResult]) -> Context:
    """The report of one run by itself."""
    estimates = estimate_scores(side.table, seed=_SEED, resamples=_RESAMPLES)
    rows = [
        _single_row(METRICS[name], estimate) for name, estimate in estimates.items() if estimate.n
    ]
    counts = {name: estimate.n for name, estimate in estimates.items()}
    deciding = METRICS.get(deciding_metric(counts, side.ok))
    sections = []
    if deciding:
        words = "highest" if deciding.better == "lower" else "lowest"
        worst = examples([side], lowest(side, deciding), deciding)
        about = f"The {words} {deciding.label}, at most {AT_MOST} rows"
        sections.append(Section("worst", "Worst rows", about, deciding.label, worst))
    return Context(
        title=side.label,
        headline=_single_headline(side, deciding, estimates),
        sides=[side],
        metrics=rows,
        figures=figures([side], {name: {"b": estimate} for name, estimate in estimates.items()}),
        latency=latency([side]),
        sections=sections,
        errors=error_groups([side]),
        provenance=provenance([side]),
        commands=commands([side]),
        gates=list(gates),
        warnings=_failed([side]) + notes_of(side.table),
        intervals=f"{count(_RESAMPLES)} resamples, seed {_SEED}",
        not_scored=", ".join(METRICS[name].label for name, n in counts.items() if not n),
    )


def _single_row(metric: Metric, estimate: Estimate) -> MetricRow:
    digits = digits_for(metric, estimate)
    cells = [cell(metric, estimate, digits)]
    return MetricRow(metric.name, metric.label, metric.about, direction(metric), cells)


def _single_headline(
    side: ReportSide, metric: Metric | None, estimates: dict[str, Estimate]
) -> Headline:
    name = side.label
    if metric is None:
        why = why_undecided(side.table)
        return Headline(
            f"{name} has no scores",
            f"{why[0].upper()}{why[1:]}; {count(side.ok)} of {count(side.n)} rows answered.",
        )
    estimate = estimates[metric.name]
    digits = digits_for(metric, estimate)
    of = "" if estimate.n == side.ok else f" of {count(side.ok)}"
    ends = (
        "One row has no interval"
        if estimate.n == 1
        else f"95 % interval {interval(estimate, digits)}"
    )
    return Headline(
        f"{name}: {metric.label} {number(estimate.value, digits, metric.unit)}",
        f"{ends}, on {count(estimate.n)}{of} rows{few(estimate)}.",
    )


def _failed(sides: Sequence[ReportSide]) -> list[str]:
    return [
        f"{count(side.error)} of {count(side.n)} rows failed for {side.label}: "
        "they have no answer and are in no mean below"
        for side in sides
        if side.error
    ]
