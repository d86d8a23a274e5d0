"""No two figures of a row contradict each other, and none is impossible."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from evaluation.compare.compare import compare_runs
from evaluation.compare.comparison import Comparison, MetricComparison
from evaluation.compare.statistics import Estimate
from evaluation.compare.table import read_table
from evaluation.metrics import METRICS, within
from evaluation.report.terminal import comparison_text, show
from evaluation.wording import verdict_sentence
from setup.common import console
from tests.evaluation.made_reports import report_of
from tests.evaluation.made_runs import made_row, made_run
from tests.evaluation.read_reports import page, table

Draw = Callable[[np.random.Generator, int], "np.ndarray[tuple[int], np.dtype[np.float64]]"]

DRAWS: dict[str, Draw] = {
    "f1": lambda generator, n: generator.beta(0.4, 0.6, n),
    "declined": lambda generator, n: generator.integers(2, size=n).astype(float),
    "bleu": lambda generator, n: 100 * generator.beta(0.3, 0.3, n),
    "judge_fluency": lambda generator, n: generator.integers(1, 6, size=n).astype(float),
    "latency_seconds": lambda generator, n: generator.lognormal(-3, 1.5, n),
    "prompt_tokens": lambda generator, n: generator.geometric(0.02, n).astype(float),
}


def compared(
    folder: Path, before: dict[str, list[float]], after: dict[str, list[float]]
) -> Comparison:
    """Runs of these values, a row for each."""
    runs = []
    for name, values in (("base", before), ("tuned", after)):
        columns = [
            dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)
        ]
        rows = [made_row(f"r{number}", scores) for number, scores in enumerate(columns)]
        runs.append(made_run(folder, f"few/{name}", rows))
    return compare_runs(*runs, resamples=500)


def drawn(folder: Path, n: int, seed: int) -> Comparison:
    generator = np.random.default_rng(seed)
    shift = generator.choice([0.0, 0.02, 0.5])
    before = {name: draw(generator, n) for name, draw in DRAWS.items()}
    after = {}
    for name, draw in DRAWS.items():
        moved = np.where(generator.random(n) < shift, draw(generator, n), before[name])
        after[name] = (before[name] * (1 - shift) if name.endswith("seconds") else moved).tolist()
    return compared(folder, {name: found.tolist() for name, found in before.items()}, after)


def ends(found: Estimate) -> tuple[float, float]:
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


@pytest.mark.parametrize("n", [2, 3, 5, 7, 8, 12, 60])
@pytest.mark.parametrize("seed", range(6))
def test_figures_of_a_row_agree(tmp_path: Path, n: int, seed: int) -> None:
    comparison = drawn(tmp_path, n, seed)
    assert len(comparison.metrics) == len(DRAWS)
    for found in comparison.metrics:
        _check_possible(found)
        _check_verdict(found)


def _check_possible(found: MetricComparison) -> None:
    metric = METRICS[found.metric]
    for estimate in (found.baseline, found.candidate):
        low, high = ends(estimate)
        assert metric.lowest <= low <= high
        assert metric.scale is None or high <= metric.scale
    low, high = ends(found.difference)
    assert low - 1e-9 <= (found.difference.value or 0.0) <= high + 1e-9
    if metric.widest is not None:
        assert -metric.widest <= low <= high <= metric.widest
        assert found.detectable is None or found.detectable <= metric.widest


def _check_verdict(found: MetricComparison) -> None:
    if METRICS[found.metric].better == "neither":
        assert (found.wins, found.losses, found.p_value, found.test) == (None, None, None, "")
        return
    assert found.p_value is not None
    says = [found.difference.excludes_zero, found.p_value < 0.05]
    if found.verdict in {"better", "worse"}:
        assert all(says)
        assert ((found.wins or 0) > (found.losses or 0)) == (found.verdict == "better")
    else:
        assert any(says) == (found.verdict == "unclear") == bool(found.doubt)


def test_a_count_over_three_rows_is_not_negative(tmp_path: Path) -> None:
    tokens = {"prompt_tokens": [12.0, 45.0, 137.0], "answer_words": [9.0, 10.0, 12.0]}
    comparison = compared(tmp_path, tokens, tokens)
    assert all(ends(found.baseline)[0] >= 0 for found in comparison.metrics)
    with console.out.capture() as printed:
        show(read_table(made_run(tmp_path, "one/a", [made_row("r", {"answer_words": 9.0})])))
    assert "few 1" in printed.get()
    text = comparison_text(comparison)
    assert text.count("  few 3  ") == 2
    assert "note: few: under 10 rows" in text


@pytest.mark.parametrize("n", [3, 12])
def test_against_a_side_that_does_not_vary_it_is_the_other_side_moved(
    tmp_path: Path, n: int
) -> None:
    words = [2.0, 3.0, 11.0, *([4.0] * 9)][:n]
    before, after = {"answer_words": [14.0] * n}, {"answer_words": words}
    (found,) = compared(tmp_path, before, after).metrics
    assert ends(found.baseline) == (14.0, 14.0)
    moved = [end - 14.0 for end in ends(found.candidate)]
    assert ends(found.difference) == pytest.approx(moved)


def test_few_rows_are_marked_in_the_report_and_ten_are_not(tmp_path: Path) -> None:
    rows = [made_row(f"r{n}", {"f1": n / 9, "bleu": None if n == 9 else 9.0}) for n in range(10)]
    runs = made_run(tmp_path, "few/a", rows), made_run(tmp_path, "few/b", rows)
    found = page(report_of(tmp_path / "report", *runs))
    [f1] = [row for row in found.cells if row[0].startswith("F1 ")]
    [bleu] = [row for row in found.cells if row[0].startswith("BLEU")]
    assert "few" not in " ".join(f1)
    assert [cell.count(", few") for cell in bleu[1:4]] == [1, 1, 1]
    assert "Few marks figures over fewer than 10 rows" in found.line


@pytest.mark.parametrize(
    ("gains", "doubt"),
    [
        ([0.2, 0.2, 0.21], "fewer than 6 rows prove nothing"),
        ([0.5] * 8 + [-0.01] * 6 + [0.0] * 6, "the mean says so, the rows won and lost do not"),
        ([0.01] * 18 + [-0.4] * 2, "the rows won and lost say so, the mean does not"),
    ],
)
def test_where_mean_and_rows_disagree_it_is_unclear(
    tmp_path: Path, gains: list[float], doubt: str
) -> None:
    before = {"f1": [0.45] * len(gains)}
    comparison = compared(tmp_path, before, {"f1": [0.45 + gain for gain in gains]})
    (found,) = comparison.metrics
    assert (found.verdict, found.doubt) == ("unclear", doubt)
    sentence = verdict_sentence(comparison)
    assert sentence.startswith("unclear whether few/tuned differs from few/base on F1: ")
    assert f": {doubt} (p " in sentence


@pytest.mark.parametrize("gain", [0.3, 0.0004, 0.0000021])
def test_what_is_better_does_not_read_as_zero(tmp_path: Path, gain: float) -> None:
    before = {"f1": [0.1 + n / 100 for n in range(20)]}
    after = {"f1": [value + gain * (1 + n % 5 / 10) for n, value in enumerate(before["f1"])]}
    first, *_ = comparison_text(compared(tmp_path, before, after)).splitlines()
    assert " is better than " in first
    shown = re.search(r", (\+\S+) \[(\+\S+), (\+\S+)\]", first)
    assert shown
    assert all(float(text) > 0 for text in shown.groups())


def test_an_exact_answer_is_within_the_axis(tmp_path: Path) -> None:
    rows = [made_row(f"r{n}", {"bleu": 100.00000000000004, "f1": 1.0}) for n in range(9)]
    runs = made_run(tmp_path, "exact/a", rows), made_run(tmp_path, "exact/b", rows)
    files = report_of(tmp_path / "report", *runs)
    assert "beyond the axis" not in page(files).text
    found = [
        float(row[f"{side}_bleu"]) for row in table(files.csv) for side in ("baseline", "candidate")
    ]
    assert set(found) == {100.0}
    assert (within("bleu", -1e-12), within("judge_fluency", 5.0000000001)) == (0.0, 5.0)
    assert (within("bleu", 101.0), within("latency_seconds", 1e6)) == (101.0, 1e6), "no rounding"


def test_values_of_other_rows_say_so(tmp_path: Path) -> None:
    """The candidate's mean is higher over its own rows, and lower on those both have."""
    before = [made_row(f"r{n}", {"f1": 0.2 if n else 0.9}) for n in range(8)]
    after = [made_row(f"r{n}", {"f1": None if n else 0.8}) for n in range(8)]
    runs = made_run(tmp_path, "gap/a", before), made_run(tmp_path, "gap/b", after)
    sentence = verdict_sentence(compare_runs(*runs))
    assert sentence.endswith("0.29 (n=8) -> 0.80 (n=1), -0.10, n=1 of 8 (few)")
    assert "(1 rows) against 0.29 (8 rows)" in page(report_of(tmp_path / "r", *runs)).line
