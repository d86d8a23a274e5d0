"""Everything the templates print, worked out; they only place it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from evaluation import wording
from evaluation.compare import notes
from evaluation.compare.comparison import Comparison
from evaluation.compare.table import Table
from evaluation.gate import GateResult
from evaluation.metrics import FIRST, GENERAL, METRICS, reading_order
from evaluation.report import examples as reading
from evaluation.report import failures, plots, provenance
from evaluation.report import figures as charts
from evaluation.report.side import Side, sides_of

_NO_PLOT = Markup()


@dataclass(frozen=True)
class Headline:
    """The verdict: one sentence, the numbers behind it, and the large plot.

    ``left`` and ``right`` say (class, text) what it means to lie on that side of zero, ``reach``
    where the axis ends.
    """

    sentence: str
    numbers: str
    plot: Markup = _NO_PLOT
    left: tuple[str, str] = ("", "")
    right: tuple[str, str] = ("", "")
    reach: str = ""


@dataclass(frozen=True)
class Section:
    """Rows to read, under a heading."""

    anchor: str
    title: str
    about: str
    metric: str
    examples: list[reading.Example]


@dataclass(frozen=True)
class Context:
    """The report. ``sides`` are the baseline and the candidate, or the only run.

    ``price`` are those of the ``metrics`` that are read first: the gain, and what it costs.
    """

    title: str
    headline: Headline
    sides: list[Side]
    metrics: Sequence[wording.MetricWords]
    price: Sequence[wording.MetricWords]
    plots: dict[str, Markup]
    figures: list[charts.Figure]
    latency: charts.Latency | None
    sections: list[Section]
    errors: list[failures.ErrorGroup]
    provenance: list[provenance.Group]
    commands: list[tuple[str, str]]
    gates: list[GateResult]
    warnings: list[str]
    intervals: str
    not_scored: str
    gaps: list[failures.Gap] = field(default_factory=list)
    pairs: str = ""

    @property
    def compared(self) -> bool:
        """Tell whether there are two sides."""
        return len(self.sides) == 2

    @property
    def gates_failed(self) -> int:
        """The number of gates that do not hold."""
        return sum(not gate.passed for gate in self.gates)


def make_context(content: Comparison | Table, gates: Sequence[GateResult]) -> Context:
    """The report of a comparison, or of one run by itself."""
    sides = sides_of(content)
    labels = [side.label for side in sides]
    lines: Sequence[wording.MetricWords]
    if isinstance(content, Table):
        scored = {
            name: content.estimates[name]
            for name in sorted(content.estimates, key=reading_order)
            if content.estimates[name].n
        }
        lines = [wording.MetricWords(METRICS[name], each) for name, each in scored.items()]
        head, sections = _single_headline(sides[0]), _worst(sides[0])
        drawn, gaps, pairs, notices = {}, [], "", notes.notes_of(content)
        unscored = [name for name in content.estimates if name not in scored]
    else:
        lines = compared = [wording.ComparedWords(each) for each in content.scored]
        head = headline(content, *labels)
        sections = [*_changes(content, sides), *_forgotten(content, sides)]
        drawn, gaps = _plots(compared), failures.gaps(content, *labels)
        pairs, unscored, notices = wording.count(content.pairs), content.not_scored, content.notes
    return Context(
        title=" against ".join(reversed(labels)),
        headline=head,
        sides=sides,
        metrics=lines,
        price=[each for n, each in enumerate(lines) if n == 0 or each.metric.name in FIRST],
        plots=drawn,
        figures=charts.figures(sides, {words.metric.name: words.digits for words in lines}),
        latency=charts.latency(sides),
        sections=sections,
        errors=failures.error_groups(sides),
        provenance=provenance.provenance(sides),
        commands=provenance.commands(sides),
        gates=list(gates),
        warnings=_failed(sides) + notices,
        intervals=f"{wording.count(content.resamples)} resamples, seed {content.seed}",
        not_scored=", ".join(METRICS[name].label for name in unscored),
        gaps=gaps,
        pairs=pairs,
    )


def _changes(comparison: Comparison, sides: list[Side]) -> list[Section]:
    if not comparison.primary:
        return []
    metric, name = METRICS[comparison.primary], sides[-1].label
    changes = [
        ("wins", "Biggest wins", "gained", comparison.best),
        ("losses", "Biggest losses", "lost", comparison.worst),
    ]
    return [
        Section(
            anchor,
            title,
            f"Where {name} {words} most by {metric.label}, at most {reading.AT_MOST} rows",
            metric.label,
            reading.examples(sides, ids, metric),
        )
        for anchor, title, words, ids in changes
    ]


def _forgotten(comparison: Comparison, sides: list[Side]) -> list[Section]:
    """The general questions that the baseline alone answered right."""
    asked = [side._replace(table=side.table.general) for side in sides if side.table.general]
    if not comparison.general_lost:
        return []
    metric = METRICS[GENERAL]
    about = f"Which {sides[0].label} answers right and {sides[1].label} does not, at most "
    rows = reading.examples(asked, comparison.general_lost, metric)
    title, about = "General questions lost", f"{about}{reading.AT_MOST}"
    return [Section("forgotten", title, about, metric.label, rows)]


def _worst(side: Side) -> list[Section]:
    metric = METRICS.get(side.table.deciding)
    if metric is None:
        return []
    words = "highest" if metric.better == "lower" else "lowest"
    rows = reading.examples([side], reading.lowest(side, metric), metric)
    about = f"The {words} {metric.label}, at most {reading.AT_MOST} rows"
    return [Section("worst", "Worst rows", about, metric.label, rows)]


def headline(comparison: Comparison, baseline: str, candidate: str) -> Headline:
    """The verdict on the primary metric; ``baseline`` and ``candidate`` are what to call them."""
    primary = comparison.metric(comparison.primary)
    if primary is None or primary.difference.value is None:
        why = comparison.undecided or "no row has a score in both"
        why = wording.upper(why.replace("in both", "on both sides"))
        return Headline(
            f"{candidate} cannot be compared with {baseline}",
            f"{why}; {wording.count(comparison.pairs)} rows are paired.",
        )
    words = wording.ComparedWords(primary)
    metric = words.metric
    reach = plots.nice_above(_reach(words))
    limit = min(reach, metric.scale) if metric.scale else reach
    word = "higher" if metric.better == "neither" else "better"
    ends = [("a", f"{baseline} {word}"), ("b", f"{candidate} {word}")]
    left, right = reversed(ends) if metric.better == "lower" else ends
    size = (560, 44)
    sentence = words.sentence(baseline, candidate) + wording.price(comparison)
    return Headline(
        wording.upper(sentence)
        if words.verdict in {"unclear", "no difference shown"}
        else sentence,
        words.explained(comparison.pairs),
        plots.interval_plot(primary.difference, limit, words.tone, words.aloud, size),
        left,
        right,
        wording.number(limit, words.digits, metric.unit),
    )


def _single_headline(side: Side) -> Headline:
    table, metric = side.table, METRICS.get(side.table.deciding)
    if metric is None:
        why = wording.upper(notes.why_undecided(table))
        answered = f"{wording.count(table.answered)} of {wording.count(table.n)} rows answered"
        return Headline(f"{side.label} has no scores", f"{why}; {answered}.")
    estimate = table.estimates[metric.name]
    digits = wording.digits_for(metric, estimate)
    of = "" if estimate.n == table.answered else f" of {wording.count(table.answered)}"
    ends = f"95 % interval {wording.interval(estimate, digits)}"
    return Headline(
        f"{side.label}: {metric.label} {wording.number(estimate.value, digits, metric.unit)}",
        f"{'One row has no interval' if estimate.n == 1 else ends}, "
        f"on {wording.count(estimate.n)}{of} rows{wording.few(estimate)}.",
    )


def _failed(sides: Sequence[Side]) -> list[str]:
    counts = [(side, side.table.n, side.table.n - side.table.answered) for side in sides]
    return [
        f"{wording.count(failed)} of {wording.count(rows)} rows failed for {side.label}: they have "
        "no answer and are in no mean below"
        for side, rows, failed in counts
        if failed
    ]


def _plots(compared: Sequence[wording.ComparedWords]) -> dict[str, Markup]:
    """Draw the differences on one axis, which holds all metrics that have a range.

    A difference is a share of the metric's range, else of the baseline's mean: those may reach out.
    """
    ends = [_reach(words) / words.metric.scale for words in compared if words.metric.scale]
    limit, drawn = min(plots.nice_above(max([0.02, *ends])), 1.0), {}
    for words in compared:
        whole = words.metric.scale or abs(words.estimates[0].value or 0.0) or 1.0
        drawn[words.metric.name] = plots.interval_plot(
            words.comparison.difference, limit * whole, words.tone, words.aloud
        )
    return drawn


def _reach(words: wording.ComparedWords) -> float:
    part = words.comparison.difference
    return max(abs(end or 0.0) for end in (part.value, part.low, part.high))
