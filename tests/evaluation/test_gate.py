"""Gates: every one is checked, none passes without figures, and a wrong file is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.compare.compare import compare_runs
from evaluation.compare.table import read_table
from evaluation.gate import GATES, GateResult, check_gates, load_gates
from evaluation.metrics import METRICS
from evaluation.results import Row, RunFolder
from setup.common.errors import FixableError
from tests.evaluation.made_runs import lost_row, made_row, made_run


def _compared(path: Path, baseline: RunFolder, candidate: RunFolder) -> list[GateResult]:
    comparison = compare_runs(baseline, candidate)
    return check_gates(path, comparison.tables[1], comparison)


Check = Callable[..., list[GateResult]]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Check gates, as they stand in a file, on a run of these rows."""

    def run(
        gates: list[dict[str, Any]], rows: Sequence[Row], baseline: Sequence[Row] | None = None
    ) -> list[GateResult]:
        path = tmp_path / "gates.yaml"
        path.write_text(yaml.safe_dump({"gates": gates}), encoding="utf-8")
        candidate = made_run(tmp_path, "next/phi-tuned", rows)
        if baseline is None:
            return check_gates(path, read_table(candidate))
        before = made_run(tmp_path, "committed/baseline", baseline)
        return _compared(path, before, candidate)

    return run


def scored(metric: str, *values: float | None) -> list[Row]:
    return [made_row(f"r{index}", {metric: value}) for index, value in enumerate(values)]


def rate(metric: str, ones: int, n: int) -> list[Row]:
    return scored(metric, *(float(index < ones) for index in range(n)))


@pytest.mark.parametrize(
    ("gate", "passes"),
    [
        ({"metric": "declined", "at_least": 0.8}, True),
        ({"metric": "declined", "at_least": 0.81}, False),
        ({"metric": "declined", "at_least": 0.6, "confident": True}, True),
        ({"metric": "declined", "at_least": 0.8, "confident": True}, False),
        ({"metric": "declined", "at_most": 0.8}, True),
        ({"metric": "declined", "at_most": 0.79}, False),
        ({"metric": "declined", "at_most": 0.85, "confident": True}, False),
        ({"metric": "declined", "at_most": 0.95, "confident": True}, True),
        ({"rows_at_least": 40}, True),
        ({"rows_at_least": 41}, False),
        ({"error_rate_at_most": 0.0}, True),
    ],
)
def test_thresholds_of_a_run(check: Check, gate: dict[str, Any], passes: bool) -> None:
    (result,) = check([gate], rate("declined", 32, 40))
    assert result.passed is passes
    assert "40" in result.detail


@pytest.mark.parametrize(
    ("gate", "passes"),
    [
        ({"difference_at_least": 0.2}, True),
        ({"difference_at_least": 0.21}, False),
        ({"difference_at_least": 0.1, "confident": True}, True),
        ({"difference_at_least": 0.2, "confident": True}, False),
        ({"difference_at_most": 0.2}, True),
        ({"difference_at_most": 0.19}, False),
        ({"not_worse_by": 0.0, "confident": True}, True),
    ],
)
def test_thresholds_of_a_difference(check: Check, gate: dict[str, Any], passes: bool) -> None:
    rows, baseline = rate("fact_recall", 120, 150), rate("fact_recall", 90, 150)
    (result,) = check([{"metric": "fact_recall"} | gate], rows, baseline)
    assert result.passed is passes
    assert result.detail.startswith("+0.20 [")


@pytest.mark.parametrize(
    ("metric", "change", "passes"),
    [
        ("fact_recall", -0.02, True),
        ("fact_recall", -0.03, False),
        ("latency_seconds", 0.02, True),
        ("latency_seconds", 0.03, False),
        ("latency_seconds", -5.0, True),
    ],
)
def test_not_worse_goes_the_metrics_own_way(
    check: Check, metric: str, change: float, passes: bool
) -> None:
    """0.52 - 0.5 is a little more than 0.02 to a computer; a gate does not fail by that."""
    rows, baseline = scored(metric, *([0.52 + change] * 9)), scored(metric, *([0.52] * 9))
    (result,) = check([{"metric": metric, "not_worse_by": 0.02}], rows, baseline)
    assert result.passed is passes


def test_quantiles_are_of_all_rows(check: Check) -> None:
    rows = scored("latency_seconds", *(float(index) for index in range(101)), None)
    gates = [
        {"metric": "latency_seconds", "quantile": 0.5, "at_most": 50},
        {"metric": "latency_seconds", "quantile": 0.95, "at_most": 94.9},
    ]
    median, tail = check(gates, rows)
    assert (median.passed, median.detail) == (True, "50.0 s, n=101")
    assert (tail.passed, tail.detail) == (False, "95.0 s, n=101")
    assert tail.name == "latency_seconds quantile 0.95 at_most 94.9"


def test_what_fails_by_little_does_not_read_as_if_it_held(check: Check) -> None:
    gates = [{"metric": "f1", "at_least": limit} for limit in (0.5, 0.4989)]
    failing, holding = check(gates, scored("f1", *([0.3] * 10), *([0.698] * 10)))
    assert (failing.passed, holding.passed) == (False, True)
    assert failing.detail.startswith("0.499 [")
    assert holding.detail.startswith("0.50 [")


def test_error_rate_is_of_all_rows(check: Check) -> None:
    rows = [made_row("a"), made_row("b"), made_row("c"), lost_row("d")]
    gates = [{"error_rate_at_most": rate} for rate in (0.25, 0.2)]
    enough, too_many = check(gates, rows)
    assert (enough.passed, too_many.passed) == (True, False)
    assert enough.detail == "n=4 ok=3 error=1"


def test_what_has_no_score_fails_with_its_reason(check: Check) -> None:
    gates = [
        {"metric": "f1", "at_least": 0.0},
        {"metric": "bleu", "at_least": 0.0},
        {"metric": "bleu", "quantile": 0.5, "at_least": 0.0},
        {"metric": "f1", "not_worse_by": 1.0},
        {"metric": "chrf", "difference_at_least": -100},
    ]
    results = check(gates, scored("f1", None, None), scored("f1", 0.5, 0.5))
    assert [result.passed for result in results] == [False] * 5
    assert [result.detail for result in results] == [
        *["no row has a score of it"] * 3,
        *["no row has a score of it in this run and in committed/baseline"] * 2,
    ]


def test_what_compares_fails_without_a_baseline(check: Check) -> None:
    gates = [{"metric": "f1", "not_worse_by": 1.0}, {"metric": "f1", "at_least": 0.5}]
    without, alone = check(gates, scored("f1", 0.5, 0.5))
    assert (without.passed, without.detail) == (False, "no baseline to compare with")
    assert alone.passed


def test_one_row_is_too_few_to_be_confident(check: Check) -> None:
    gates = [{"metric": "f1", "at_least": 0.0, "confident": True}]
    (result,) = check(gates, scored("f1", 1.0))
    assert not result.passed
    assert result.detail.endswith("too few rows for an interval")


def test_a_run_without_rows_fails_even_on_errors(check: Check) -> None:
    gates: list[dict[str, Any]] = [{"error_rate_at_most": 1.0}, {"rows_at_least": 1}]
    assert [result.passed for result in check(gates, [])] == [False, False]


def test_a_run_whose_every_row_failed_is_checked_to_the_end(check: Check) -> None:
    gates = [{"error_rate_at_most": 0.5}, {"metric": "f1", "not_worse_by": 0.1}]
    results = check(gates, [lost_row("r0"), lost_row("r1")], scored("f1", 0.5, 0.5))
    assert [result.passed for result in results] == [False, False]


def sample_rows(recalled: int, declines: int) -> list[Row]:
    """The sample's 206 test rows, 40 of which must be declined."""
    common = {"f1": 0.6, "latency_seconds": 2.0, "completion_tokens": 20.0}
    known = [
        {"fact_recall": float(index < recalled), "over_declined": float(index >= 160)} | common
        for index in range(166)
    ]
    unknown = [{"declined": float(index < declines)} | common for index in range(40)]
    return [made_row(f"r{index}", scores) for index, scores in enumerate([*known, *unknown])]


@pytest.mark.parametrize(
    ("recalled", "declines", "knows", "failing"),
    [
        (146, 32, 80, []),
        (142, 30, 72, []),
        (146, 32, 50, ["general not_worse_by 0.08"]),
        (
            100,
            20,
            80,
            [
                "fact_recall at_least 0.75, confident",
                "declined at_least 0.75",
                "fact_recall not_worse_by 0.05",
                "declined not_worse_by 0.15",
            ],
        ),
    ],
)
def test_the_committed_gates_tell_the_tuned_model_from_a_worse_one(
    tmp_path: Path, recalled: int, declines: int, knows: int, failing: list[str]
) -> None:
    baseline = made_run(
        tmp_path, "committed/baseline", sample_rows(146, 32), general=[1.0] * 80 + [0.0] * 40
    )
    candidate = made_run(
        tmp_path,
        "next/phi-tuned",
        sample_rows(recalled, declines),
        general=[1.0] * knows + [0.0] * (120 - knows),
    )
    results = _compared(GATES, baseline, candidate)
    assert [result.name for result in results if not result.passed] == failing
    assert len(results) == len(load_gates())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the file: "),
        ("gates: []", "gates: List should have at least 1 item"),
        ("gates: [", "is not YAML"),
        ("gates: [{metric: f2, at_least: 1}]", f"name one of: {', '.join(METRICS)}"),
        ("gates: [{metric: f1, atleast: 1}]", "gates.0.atleast: unknown field"),
        ("gates: [{metric: f1, at_least: .nan}]", "at_least: Input should be a finite number"),
        ("gates: [{metric: f1, at_least: yes}]", "at_least: Input should be a valid number"),
        ("gates: [{metric: f1}]", "one condition is needed, here are none"),
        ("gates: [{metric: f1, at_least: 1, at_most: 2}]", "here are at_least and at_most"),
        ("gates: [{at_least: 1}]", "at_least needs a metric"),
        ("gates: [{metric: f1, rows_at_least: 1}]", "rows_at_least is of the run"),
        ("gates: [{rows_at_least: 1, confident: true}]", "no interval to be confident of"),
        ("gates: [{error_rate_at_most: 2}]", "less than or equal to 1, got 2"),
        ("gates: [{metric: f1, not_worse_by: -1}]", "greater than or equal to 0, got -1"),
        ("gates: [{metric: f1, quantile: 0.5, not_worse_by: 1}]", "quantile goes with at_least"),
        ("gates: [{metric: answer_words, not_worse_by: 1}]", "better neither way"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "gates.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FixableError) as refused:
        load_gates(path)
    line = str(refused.value)
    assert says in line
    assert line.startswith(str(path))
    assert "\n" not in line


def test_no_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FixableError, match=r"no gates in .*nowhere\.yaml"):
        load_gates(tmp_path / "nowhere.yaml")
