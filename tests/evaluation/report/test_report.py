"""The report's three files: the comparison's numbers, in an order that starts with the verdict."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluation.compare.compare import compare_runs
from evaluation.compare.comparison import Comparison, MetricComparison, Side, Verdict
from evaluation.compare.statistics import Estimate
from evaluation.compare.table import read_table
from evaluation.metrics import METRICS
from evaluation.report.context import headline
from evaluation.report.write import ReportFiles, write_report
from evaluation.results import Row, RunFolder
from evaluation.wording import number, probability
from tests.evaluation.made_reports import GATES, ordinary_runs, report_of
from tests.evaluation.made_runs import lost_row, made_row, made_run
from tests.evaluation.read_reports import page, rendered, table


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, RunFolder]:
    return ordinary_runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def files(
    runs: tuple[RunFolder, RunFolder], tmp_path_factory: pytest.TempPathFactory
) -> ReportFiles:
    return report_of(tmp_path_factory.mktemp("report"), *runs, GATES)


def numbers(text: str) -> list[float]:
    plain = text.replace("\u2212", "-").replace("\u00a0", "")
    return [float(found) for found in re.findall(r"[-+]?\d+(?:\.\d+)?", plain)]


def says(cell: str, found: Estimate) -> bool:
    """Whether a cell has the estimate and its ends, rounded to as many digits as it shows."""
    decimals = len(cell.split(maxsplit=1)[0].rpartition(".")[2])
    ends = [found.value, found.low, found.high]
    return numbers(cell)[:3] == pytest.approx(ends, abs=0.501 * 10**-decimals)


def test_the_table_has_the_numbers_of_the_comparison(
    runs: tuple[RunFolder, RunFolder], files: ReportFiles
) -> None:
    comparison = compare_runs(*runs, resamples=200)
    rows = {row[0].split("  ")[0].strip(): row[1:] for row in page(files).cells if len(row) == 9}
    assert len(comparison.metrics) == 7
    for found in comparison.metrics:
        row = next(
            row for label, row in rows.items() if label.startswith(METRICS[found.metric].label)
        )
        estimates = (found.baseline, found.candidate, found.difference)
        for cell, estimate in zip(row[:3], estimates, strict=True):
            assert says(cell, estimate), (cell, estimate)
        if METRICS[found.metric].better == "neither":
            assert (numbers(row[4]), found.wins, found.losses, found.p_value) == ([], *[None] * 3)
            continue
        assert numbers(row[4]) == [found.wins, found.ties, found.losses]
        assert found.test in row[5]
        assert found.verdict in row[7]


def test_the_verdict_is_first_then_gates_then_rows(files: ReportFiles) -> None:
    text = page(files).line
    order = [
        "phi-tuned is better than phi-base on fact recall",
        "1 of 2 gates failed",
        "rows_at_least 80",
        "fact_recall at_least 0.5",
        "n= 60 ok= 59 error= 1",
        "Warning: 1 of 60 rows failed for phi-tuned",
        "Metrics Means and rates",
        "Distributions Shares of rows",
        "Biggest wins Where",
        "Biggest losses Where",
        "ThrottledError",
        "Coverage gaps",
        "pf run show-details --name made_chat",
        "How to read this A",
    ]
    places = [text.index(part, text.index("Evaluation of")) for part in order]
    assert places == sorted(places)


def side_of(n: int) -> Side:
    return Side("n/x", "/x", n, n, 0)


def made_comparison(metric: str, difference: Estimate, verdict: Verdict) -> Comparison:
    side = Estimate(0.5, 0.4, 0.6, 50)
    found = MetricComparison(metric, side, side, difference, 1, 2, 3, 0.5, "sign", 0.25, verdict)
    return Comparison(side_of(50), side_of(50), 50, [found], metric, [], [], [], [], [], [], 0, 200)


@pytest.mark.parametrize(
    ("metric", "ends", "verdict", "sentence", "right"),
    [
        ("f1", (0.1, 0.3), "better", "new is better than old on F1", "new better"),
        ("f1", (-0.3, -0.1), "worse", "new is worse than old on F1", "new better"),
        ("latency_seconds", (-3, -1), "better", "new is better than old on latency", "old better"),
        ("f1", (-0.1, 0.3), "no difference shown", "No difference shown", "new better"),
        ("answer_words", (1, 3), "no difference shown", "new has larger words", "new higher"),
        ("answer_words", (-1, 3), "no difference shown", "No difference shown", "new higher"),
    ],
)
def test_the_verdict_in_words(
    metric: str, ends: tuple[float, float], verdict: Verdict, sentence: str, right: str
) -> None:
    difference = Estimate(sum(ends) / 2, *ends, 50)
    found = headline(made_comparison(metric, difference, verdict), "old", "new")
    assert found.sentence.startswith(sentence)
    assert found.right[1] == right
    assert ("0.25 " in found.numbers or "0.250 " in found.numbers) == sentence.startswith(
        "No difference"
    )


def test_rows_of_one_side_alone_are_in_the_csv(tmp_path: Path) -> None:
    def rows(*ids: str) -> Iterator[Row]:
        return (made_row(row_id, {"f1": len(row_id) / 10}, answer=row_id) for row_id in ids)

    baseline = made_run(tmp_path, "gap/a", rows("one", "three", "eleven"))
    candidate = made_run(tmp_path, "gap/b", rows("three", "seven", "eleven"))
    files = report_of(tmp_path / "report", baseline, candidate)
    found = {
        row["id"]: (row["baseline_answer"], row["candidate_answer"]) for row in table(files.csv)
    }
    assert found == {
        "one": ("one", ""),
        "three": ("three", "three"),
        "eleven": ("eleven", "eleven"),
        "seven": ("", "seven"),
    }
    text = page(files).text
    assert "1 row only in a" in text
    assert "1 row only in b" in text


def test_the_page_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    sizes = [
        report_of(tmp_path / str(rows), *ordinary_runs(tmp_path / f"runs{rows}", rows))
        .html.stat()
        .st_size
        for rows in (100, 1_000)
    ]
    assert sizes[1] < 1.1 * sizes[0]


def test_the_same_runs_give_the_same_files(
    runs: tuple[RunFolder, RunFolder], files: ReportFiles, tmp_path: Path
) -> None:
    again = report_of(tmp_path, *runs, GATES)
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "report.md", "rows.csv"}
    for first, second in zip(vars(files).values(), vars(again).values(), strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_errors_are_grouped_and_fifty_are_listed(tmp_path: Path) -> None:
    rare = made_row("rare", error={"type": "RareError", "message": "seldom"})
    rows = [made_row("ok", {"f1": 0.5}), *(lost_row(f"lost {index}") for index in range(80)), rare]
    text = page(write_report(tmp_path / "r", read_table(made_run(tmp_path, "e/a", rows)))).text
    assert text.count("429 from http://127.0.0.1:1") == 49
    assert "31 more in rows.csv" in text
    assert text.index("ThrottledError") < text.index("RareError")
    assert "seldom" in text


def test_markdown_is_short_and_lists_five_losses(files: ReportFiles) -> None:
    text = files.markdown.read_text(encoding="utf-8")
    price = "worse on general questions (from 0.87 to 0.59, n=150)"
    assert text.startswith(f"### phi-tuned is better than phi-base on fact recall, {price}\n")
    assert text.count("<pre>") == text.count("</pre>") == 5
    assert "- phi-tuned: n=60 ok=59 error=1" in text
    assert len(text) < 6_000
    found = rendered(files)
    assert "Biggest losses: fact recall" in found.text
    assert len([row for row in found.cells if len(row) == 6]) == 8


def test_one_run_alone_has_means_and_its_worst_rows(tmp_path: Path) -> None:
    rows = [made_row(f"row {index}", {"f1": index / 40}) for index in range(40)]
    run = made_run(tmp_path, "one/phi-tuned", rows)
    files = write_report(tmp_path / "report", read_table(run), GATES)
    text = page(files).line
    assert "phi-tuned: F1 0.49" in text
    assert "1 of 2 gates failed" in text
    assert "1. F1 0.00 line 0 · row 0" in text
    assert "20. F1 0.47" in text
    assert "21. F1" not in text
    assert [row["f1"] for row in table(files.csv)] == [str(index / 40) for index in range(40)]


def test_runs_without_a_common_score_are_reported(tmp_path: Path) -> None:
    baseline = made_run(tmp_path, "none/a", [lost_row("1"), made_row("2", {"f1": 0.5})])
    candidate = made_run(tmp_path, "none/b", [made_row("1", {"f1": 0.5}), lost_row("2")])
    found = page(report_of(tmp_path / "report", baseline, candidate)).text
    assert "b cannot be compared with a" in found
    assert "No row has a score on both sides; 0 rows are paired." in found
    nothing = made_run(tmp_path, "none/c", [lost_row("1"), lost_row("2")])
    text = page(write_report(tmp_path / "c", read_table(nothing))).text
    assert "c has no scores" in text
    assert "0 of 2 rows answered" in text


def test_two_runs_of_one_connection_have_their_whole_names(tmp_path: Path) -> None:
    first, second = (
        made_run(tmp_path, f"{name}/phi", [made_row("1", {"f1": 0.5})]) for name in ("old", "new")
    )
    comparison = compare_runs(first, second)
    text = page(write_report(tmp_path / "r", comparison)).line
    assert "Evaluation of new/phi against old/phi" in text


def test_settings_that_differ_are_marked(tmp_path: Path) -> None:
    rows = [made_row("1", {"f1": 0.5})]
    first = made_run(tmp_path, "n/a", rows, flows={"chat": "x"})
    second = made_run(tmp_path, "n/b", rows, flows={"chat": "y"}, seed=7)
    found = page(report_of(tmp_path / "r", first, second))
    assert "Warning: the flows changed between the runs: chat." in found.line
    [row] = [row for row in found.cells if row[0].startswith("flows.chat")]
    assert [cell.split(maxsplit=1)[0] for cell in row] == ["flows.chat", "x", "y"]
    assert "≠" in row[0]
    [same] = [row for row in found.cells if row[0].startswith("data.path")]
    assert len(same) == 2
    assert "model: 1 value differs" in found.line


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (number(0.8749, 3), "0.875"),
        (number(-0.0001, 3), "0.000"),
        (number(12345.6, 0), "12\u00a0346"),
        (number(None, 3), "\u2013"),
        (number(1.5, 2, "s"), "1.50\u00a0s"),
        (number(0.25, 3, signs=True), "+0.250"),
        (number(-0.25, 3, signs=True), "\u22120.250"),
        (number(0.0001, 3, signs=True), "0.000"),
        (number(0.0001, 3, "s", signs=True), "0.000\u00a0s"),
        (number(10.0, 0, signs=True), "+10"),
        (probability(0.0004), "p < 0.001"),
        (probability(0.0456), "p = 0.046"),
    ],
)
def test_numbers_are_written_one_way(text: str, written: str) -> None:
    assert text == written
