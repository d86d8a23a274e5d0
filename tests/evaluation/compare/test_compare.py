"""Two run folders compared: pairs, verdicts, gaps, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from evaluation.compare.compare import compare_runs
from evaluation.compare.comparison import Comparison, MetricComparison
from evaluation.compare.table import read_table
from evaluation.results import Row
from setup.common.errors import FixableError
from tests.evaluation.made_runs import lost_row, made_row, made_run

Compare = Callable[..., Comparison]


@pytest.fixture
def compare(tmp_path: Path) -> Compare:
    """Write two runs of these rows and compare them; ``config`` is the candidate's."""

    def run(
        baseline: Sequence[Row], candidate: Sequence[Row], primary: str = "", **config: Any
    ) -> Comparison:
        base = made_run(tmp_path, "first/phi-base", baseline)
        tuned = made_run(tmp_path, "first/phi-tuned", candidate, **config)
        return compare_runs(base, tuned, primary=primary)

    return run


def scored(name: str, *values: float | None) -> list[Row]:
    return [made_row(f"r{index}", {name: value}) for index, value in enumerate(values)]


def metric(comparison: Comparison, name: str) -> MetricComparison:
    found = comparison.metric(name)
    assert found is not None
    return found


def test_wins_are_counted_in_the_metrics_own_direction(compare: Compare) -> None:
    before, after = (1.0, 2.0, 3.0, 4.0), (0.5, 2.0, 2.5, 6.0)
    name = "latency_seconds"
    found = metric(compare(scored(name, *before), scored(name, *after)), name)
    assert (found.wins, found.ties, found.losses) == (2, 1, 1)
    assert found.difference.value == pytest.approx(0.25)
    assert found.test == "sign"
    assert found.p_value == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "up", "down"),
    [
        ("f1", "better", "worse"),
        ("defect", "worse", "better"),
        ("completion_tokens", "no difference shown", "no difference shown"),
    ],
)
@pytest.mark.parametrize("rises", [True, False])
def test_verdict_follows_the_metrics_direction(
    compare: Compare, name: str, up: str, down: str, rises: bool
) -> None:
    low, high = scored(name, *([0.0] * 30)), scored(name, *([1.0] * 30))
    found = metric(compare(low, high) if rises else compare(high, low), name)
    assert found.verdict == (up if rises else down)


def test_an_interval_with_zero_in_it_shows_nothing(compare: Compare) -> None:
    before, after = [0.0] * 30, [1.0] * 4 + [0.0] * 26
    found = metric(compare(scored("declined", *before), scored("declined", *after)), "declined")
    assert found.difference.value == pytest.approx(4 / 30)
    assert found.difference.low is not None
    assert found.difference.low < 0
    assert found.p_value == pytest.approx(0.125)
    assert found.verdict == "no difference shown"


@pytest.mark.parametrize(("before", "after"), [(0.5, 0.5), (0.3, 0.1 + 0.2)])
def test_equal_scores_are_ties_and_show_nothing(
    compare: Compare, before: float, after: float
) -> None:
    rows = scored("f1", *([before] * 12)), scored("f1", *([after] * 12))
    comparison = compare(*rows)
    found = metric(comparison, "f1")
    assert (found.wins, found.ties, found.losses, found.p_value) == (0, 12, 0, 1.0)
    assert (found.difference.low, found.difference.high) == (0.0, 0.0)
    assert found.verdict == "no difference shown"
    assert (found.detectable, comparison.best) == (None, [])


def test_zeros_and_ones_are_a_rate_whatever_the_metric_is_called(compare: Compare) -> None:
    """The base model recalls nothing: that has an interval, which a bootstrap of zeros has not."""
    before, after = [0.0] * 166, [1.0] * 146 + [0.0] * 20
    rows = scored("fact_recall", *before), scored("fact_recall", *after)
    found = metric(compare(*rows), "fact_recall")
    assert found.test == "exact McNemar"
    assert found.baseline.low == pytest.approx(0.0, abs=1e-12)
    assert found.baseline.high == pytest.approx(0.0226, abs=1e-4)
    assert found.difference.value == pytest.approx(146 / 166)


def test_a_scale_that_goes_on_is_not_a_rate(compare: Compare) -> None:
    name = "judge_correctness"
    found = metric(compare(scored(name, *([1.0] * 9)), scored(name, *([1.0] * 9))), name)
    assert found.test == "sign"
    assert (found.baseline.low, found.baseline.high) == (1.0, 1.0)


def test_only_rows_with_both_scores_are_pairs(compare: Compare) -> None:
    rows = scored("f1", 0.1, None, 0.3, None), scored("f1", 0.2, 0.9, None, None)
    comparison = compare(*rows)
    found = metric(comparison, "f1")
    assert (found.baseline.n, found.candidate.n, found.difference.n) == (2, 2, 1)
    assert found.difference.value == pytest.approx(0.1)
    assert (found.difference.low, found.difference.high) == (None, None)
    assert found.verdict == "no difference shown"
    assert comparison.pairs == 4


def test_gaps_and_failures_are_named_and_no_pairs(compare: Compare) -> None:
    shared = [made_row("both", {"f1": 0.5})]
    baseline = [*shared, lost_row("lost"), made_row("late", {"f1": 1.0}), made_row("mine")]
    candidate = [made_row("hers"), made_row("lost", {"f1": 1.0}), lost_row("late"), *shared]
    comparison = compare(baseline, candidate)
    assert (comparison.only_baseline, comparison.only_candidate) == (["mine"], ["hers"])
    assert (comparison.failed_baseline, comparison.failed_candidate) == (["lost"], ["late"])
    assert comparison.pairs == metric(comparison, "f1").difference.n == 1
    side = comparison.baseline
    assert (side.name, side.n, side.ok, side.error) == ("first/phi-base", 4, 3, 1)


def test_a_metric_that_one_run_lacks_stays_visible(compare: Compare) -> None:
    rows = [made_row("r0", {"f1": 0.5, "bleu": 7.0})], [made_row("r0", {"f1": 0.5})]
    comparison = compare(*rows)
    assert [found.metric for found in comparison.metrics] == ["f1", "bleu"]
    found = metric(comparison, "bleu")
    assert (found.baseline.value, found.candidate.value) == (7.0, None)
    assert (found.difference.n, found.p_value, found.detectable) == (0, None, None)


def test_when_every_row_failed_nothing_is_shown(compare: Compare) -> None:
    comparison = compare(scored("f1", 0.1, 0.2), [lost_row("r0"), lost_row("r1")])
    assert (comparison.pairs, comparison.primary) == (0, "")
    assert metric(comparison, "f1").verdict == "no difference shown"


def test_best_and_worst_rows_are_in_order_and_did_change(compare: Compare) -> None:
    before = scored("f1", *([0.5] * 60))
    after = scored("f1", *([0.5] * 10), *(index / 50 for index in range(50)))
    comparison = compare(before, after)
    assert comparison.primary == "f1"
    assert comparison.worst[:3] == ["r10", "r11", "r12"]
    assert comparison.best[:3] == ["r59", "r58", "r57"]
    assert len(comparison.best) == len(comparison.worst) == 20


def test_rows_that_did_not_change_are_in_no_list(compare: Compare) -> None:
    comparison = compare(scored("f1", 0.5, 0.5, 0.5), scored("f1", 0.5, 0.4, 0.5))
    assert (comparison.best, comparison.worst) == ([], ["r1"])


def test_best_of_a_metric_where_less_is_better(compare: Compare) -> None:
    name = "latency_seconds"
    comparison = compare(scored(name, 3.0, 1.0, 2.0), scored(name, 1.0, 4.0, 2.0), primary=name)
    assert (comparison.best, comparison.worst) == (["r0"], ["r1"])


def test_primary_is_the_first_that_has_a_better_way_unless_named(compare: Compare) -> None:
    scores = {"answer_words": 3.0, "bleu": 5.0, "f1": 0.5, "fact_recall": None}
    rows = [made_row(f"r{index}", scores) for index in range(3)]
    assert compare(rows, rows).primary == "f1"


@pytest.mark.parametrize(
    ("primary", "says"),
    [("f2", "no metric 'f2'"), ("declined", "no row has a score of declined in both runs")],
)
def test_a_primary_that_is_not_there_is_refused(compare: Compare, primary: str, says: str) -> None:
    rows = scored("f1", 0.1, 0.2)
    with pytest.raises(FixableError, match=says) as refused:
        compare(rows, rows, primary=primary)
    assert "f1" in refused.value.fix


def test_runs_without_a_row_in_common_are_refused(compare: Compare) -> None:
    with pytest.raises(FixableError, match="no row in common"):
        compare([made_row("a")], [made_row("b")])


OTHER: dict[str, Any] = {"data": {"path": "other.jsonl", "sha256": "f" * 64, "rows": 2}}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"question": "And who pays?"}, "other inputs"),
        ({"ground_truth": "Nobody."}, "other ground truth"),
        ({"facts": ["nobody"]}, "other facts"),
    ],
)
def test_ids_that_name_other_rows_are_refused(
    compare: Compare, change: dict[str, Any], says: str
) -> None:
    """Line numbers as ids pair any two files."""
    baseline = [made_row("0"), made_row("1")]
    candidate = [made_row("0"), made_row("1", **change)]
    with pytest.raises(FixableError, match=f"row '1' has {says}"):
        compare(baseline, candidate, **OTHER)


def test_other_data_and_other_flows_are_noted(compare: Compare) -> None:
    rows = scored("f1", 0.1, 0.2)
    changed = OTHER | {"flows": {"chat": "0" * 64, "answers": "2" * 64}}
    data, flows = compare(rows, rows[:1], **changed).notes
    assert "other.jsonl" in data
    assert flows == "the flows changed between the runs: answers"


def test_answers_that_were_cut_are_counted(compare: Compare) -> None:
    rows = scored("completion_tokens", 96, 95, 96)
    assert compare(rows, rows, answer_limit=96).notes == [
        "2 of 3 answers are cut at 96 tokens in first/phi-tuned"
    ]


def test_an_id_that_stands_twice_is_refused(compare: Compare) -> None:
    with pytest.raises(FixableError, match="has the row 'a' twice"):
        compare([made_row("a"), made_row("a")], [made_row("a")])


def test_a_score_that_is_no_metric_is_refused(compare: Compare) -> None:
    with pytest.raises(FixableError, match="no metric 'charm'"):
        compare(scored("charm", 1.0), scored("charm", 1.0))


def test_the_same_arguments_give_the_same_json(tmp_path: Path) -> None:
    values = [index * 37 % 101 / 101 for index in range(90)]
    base = made_run(tmp_path, "a/phi-base", scored("f1", *values))
    tuned = made_run(tmp_path, "a/phi-tuned", scored("f1", *reversed(values)))
    texts = {json.dumps(compare_runs(base, tuned).as_dict(), allow_nan=False) for _ in range(2)}
    assert len(texts) == 1
    assert metric(compare_runs(base, tuned, seed=1), "f1") != metric(
        compare_runs(base, tuned), "f1"
    )


def test_one_run_has_estimates_of_its_own(tmp_path: Path) -> None:
    run = made_run(tmp_path, "a/phi", [*scored("f1", 0.25, 0.75), lost_row("x")])
    assert read_table(run).estimates["f1"].value == 0.5
