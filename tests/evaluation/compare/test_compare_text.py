"""What the terminal shows of a comparison and of one run."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.compare.compare import compare_runs
from evaluation.compare.table import read_table
from evaluation.report.terminal import comparison_text, show
from evaluation.results import Row, RunFolder
from setup.common import console
from tests.evaluation.made_runs import lost_row, made_row, made_run


def runs(folder: Path, baseline: list[Row], candidate: list[Row]) -> tuple[RunFolder, RunFolder]:
    base = made_run(folder, "first/phi-base", baseline)
    return base, made_run(folder, "first/phi-tuned", candidate)


def recall(ones: int, n: int = 166) -> list[Row]:
    return [made_row(f"r{index}", {"fact_recall": float(index < ones)}) for index in range(n)]


def test_the_verdict_is_the_first_line(tmp_path: Path) -> None:
    lines = comparison_text(compare_runs(*runs(tmp_path, recall(0), recall(146)))).splitlines()
    assert lines[0] == (
        "first/phi-tuned is better than first/phi-base on fact recall: "
        "0.00 -> 0.88, +0.88 [+0.82, +0.92], n=166"
    )
    assert lines[1:3] == [
        "  first/phi-base: n=166 ok=166 error=0",
        "  first/phi-tuned: n=166 ok=166 error=0",
    ]
    assert lines[4].split()[:3] == ["metric", "baseline", "candidate"]
    assert "146/20/0" in lines[5]
    assert "<0.001" in lines[5]
    assert lines[-1] == "0 of 166 rows worse on fact recall"


def test_no_difference_is_said_as_such(tmp_path: Path) -> None:
    text = comparison_text(compare_runs(*runs(tmp_path, recall(80), recall(81))))
    assert text.startswith("no difference shown between first/phi-tuned and first/phi-base on")


def test_gaps_failures_and_regressions_are_counted(tmp_path: Path) -> None:
    baseline = [*recall(40, 40), *(lost_row(f"lost{index}") for index in range(7)), made_row("a")]
    candidate = [*recall(10, 40), *(made_row(f"lost{index}") for index in range(7))]
    lines = comparison_text(compare_runs(*runs(tmp_path, baseline, candidate))).splitlines()
    assert "not compared, only in first/phi-base: a" in lines
    failed = "not compared, failed in first/phi-base: lost0, lost1, lost2, lost3, lost4, and 2 more"
    assert failed in lines
    worse = "30 of 40 rows worse on fact recall: r10, r11, r12, r13, r14, and 25 more"
    assert lines[-1] == worse


def test_where_nothing_was_answered_the_first_line_says_so(tmp_path: Path) -> None:
    text = comparison_text(compare_runs(*runs(tmp_path, recall(3, 3), [lost_row("r0")])))
    assert text.splitlines()[0].endswith("no row has a score in both")
    assert "only in first/phi-base: r1, r2" in text


@pytest.mark.parametrize(
    ("metric", "value", "shown"),
    [
        ("bleu", 41.26, "41.3 [41.3, 41.3]"),
        ("latency_seconds", 1.5, "1.50 s [1.50, 1.50]"),
        ("prompt_tokens", 1234.0, "1,234.0 [1,234.0, 1,234.0]"),
        ("judge_fluency", 4.0, "4.00 [4.00, 4.00]"),
        ("f1", None, "-"),
    ],
)
def test_numbers_are_written_by_unit_and_scale(
    tmp_path: Path, metric: str, value: float, shown: str
) -> None:
    rows = [made_row(f"r{index}", {metric: value}) for index in range(10)]
    with console.out.capture() as printed:
        show(read_table(made_run(tmp_path, "first/phi", rows)))
    lines = printed.get().splitlines()
    assert lines[0] == "first/phi: n=10 ok=10 error=0"
    assert lines[-2].split() == ["metric", "mean", "n"]
    assert f"  {shown}  " in lines[-1]


def test_a_narrow_interval_gets_the_digits_it_needs(tmp_path: Path) -> None:
    before = [made_row(f"r{index}", {"f1": 0.5}) for index in range(49)]
    after = [made_row(f"r{index}", {"f1": 0.5004 + index % 7 / 1e4}) for index in range(49)]
    first, *_ = comparison_text(compare_runs(*runs(tmp_path, before, after))).splitlines()
    assert first.endswith("0.5000 -> 0.5007, +0.0007 [+0.0006, +0.0008], n=49")


def test_brackets_are_no_markup_and_no_column_is_cut(tmp_path: Path) -> None:
    comparison = compare_runs(*runs(tmp_path, recall(0), recall(146)))
    with console.out.capture() as printed:
        show(comparison)
    assert printed.get().strip() == comparison_text(comparison, console.out.width)


@pytest.mark.parametrize("width", [66, 80, 100, 200])
@pytest.mark.parametrize("wide", [{}, {"evals_groundedness": 4.0, "prompt_tokens": 1234.5}])
def test_the_table_fits_the_console_and_leaves_nothing_out(
    tmp_path: Path, width: int, wide: dict[str, float]
) -> None:
    rows = [
        [made_row(f"r{n}", {"over_declined": n % 2, "latency_seconds": slow, **wide})]
        for slow in (1.5, 12.5)
        for n in range(20)
    ]
    before, after = ([row for (row,) in side] for side in (rows[:20], rows[20:]))
    comparison = compare_runs(*runs(tmp_path, before, after))
    whole, fitted = (comparison_text(comparison, limit).split("\n\n")[1] for limit in (None, width))
    assert max(map(len, fitted.splitlines())) <= width
    assert sorted(fitted.split()) == sorted(whole.split())
    lines = fitted.splitlines()
    if width < 100 and (wide or width < 80):  # some names stand on lines of their own
        return
    assert len(lines) == len(whole.splitlines()) * (1 if width == 200 else 2)
