"""What a model or a user wrote stays text: on the page, in the Markdown, in the CSV."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.compare.table import read_table
from evaluation.report.text import csv_cell, visible
from evaluation.report.write import ReportFiles, write_report
from evaluation.results import RunFolder
from tests.evaluation.made_reports import GATES, HOSTILE, hostile_runs, ordinary_runs, report_of
from tests.evaluation.made_runs import made_row, made_run
from tests.evaluation.read_reports import page, rendered, table

_HTML = """
    a article body code dd details div dl dt figcaption figure footer h1 h2 h3 head header html
    li link main meta nav p section span strong style summary table tbody td th thead title tr ul
    svg line rect circle path text"""
_GITHUB = "blockquote details h3 li p pre strong summary table tbody td th thead tr ul"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, RunFolder]:
    return ordinary_runs(tmp_path_factory.mktemp("runs"), 20)


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> ReportFiles:
    folder = tmp_path_factory.mktemp("evil")
    return report_of(folder / "report", *hostile_runs(folder), GATES)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_text(name: str, evil: ReportFiles) -> None:
    shown = HOSTILE[name][1]
    assert shown in page(evil).text


def test_nothing_hostile_is_an_element(evil: ReportFiles) -> None:
    found = page(evil)
    assert found.tags <= set(_HTML.split())
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert "Evil<b>Error" in found.text
    assert "phi-<b>|tuned" in found.text


def test_nothing_hostile_is_markdown(evil: ReportFiles) -> None:
    found = rendered(evil)
    assert found.tags <= set(_GITHUB.split())
    for name in list(HOSTILE)[:5]:
        assert HOSTILE[name][1] in found.text, name
    assert {len(row) for row in found.cells} == {3, 4, 6}, "a cell was split or lost"
    assert "rows_at_least 80 <script>|" in found.text


@pytest.mark.parametrize("text", ["@octocat", "#1", "www.e.org", "https://e.org", "$x$", "__a__"])
def test_github_makes_nothing_of_a_gate(
    text: str, runs: tuple[RunFolder, RunFolder], tmp_path: Path
) -> None:
    gate = type(GATES[0])("rows", True, text)
    files = report_of(tmp_path, *runs, (gate,))
    assert text not in files.markdown.read_text(encoding="utf-8")
    assert text in rendered(files).text.replace("\u200b", "")


def test_the_page_asks_for_nothing_outside(evil: ReportFiles) -> None:
    found, html = page(evil), evil.html.read_text(encoding="utf-8")
    asked = [
        value for name, value in found.attributes if name in {"src", "href", "srcset", "action"}
    ]
    assert asked
    assert all(value.startswith(("#", "data:")) for value in asked)
    style = html.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    [policy] = [value for _, value in found.attributes if "default-src" in value]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert "script" not in found.tags


def test_every_row_is_in_the_csv_once(evil: ReportFiles) -> None:
    rows = table(evil.csv)
    assert [row["id"] for row in rows] == [*(f"row {name}" for name in HOSTILE), "lost <b>"]
    for row, (text, _) in zip(rows, HOSTILE.values(), strict=False):
        assert row["candidate_answer"].removeprefix("'") == text.replace("\0", "\ufffd")
        assert float(row["candidate_fact_recall"]) == 0.0
        assert float(row["baseline_latency_seconds"]) == 1.5
    assert rows[-1]["candidate_error_type"] == "Evil<b>Error"
    assert rows[-1]["candidate_fact_recall"] == ""


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\uff1d1", "'\uff1d1"),
        ("'quoted'", "''quoted'"),
        ("two = 2", "two = 2"),
        ("", ""),
        ("a\ud800b", "a\ufffdb"),
    ],
)
def test_a_cell_is_no_formula(text: str, cell: str) -> None:
    assert csv_cell(text) == cell
    assert cell.removeprefix("'") == text.replace("\ud800", "\ufffd")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\r\nb\rc\td", "a\nb\nc\td"),
        ("\x1b[31m", "␛[31m"),
        ("\ud83d!", "[U+D83D]!"),
        ("\x85\u2028\ufeff\x7f", "[U+0085][U+2028][U+FEFF]␡"),
        ("naïve 東京 🙂 שלום", "naïve 東京 🙂 שלום"),
    ],
)
def test_hidden_characters_are_shown(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert shown.encode()


def test_an_unpaired_surrogate_in_a_setting_is_shown(tmp_path: Path) -> None:
    run = made_run(tmp_path, "s/a", [made_row("1", {"f1": 0.5})], recipe={"x\udc00": "y\ud800"})
    text = page(write_report(tmp_path / "report", read_table(run))).text
    assert "recipe.x[U+DC00]" in text
    assert "y[U+D800]" in text


def test_a_long_answer_is_cut_on_the_page_alone(tmp_path: Path) -> None:
    long = "<&>word " * 125_000
    baseline = made_run(tmp_path, "long/a", [made_row("1", {"f1": 1.0})])
    candidate = made_run(tmp_path, "long/b", [made_row("1", {"f1": 0.0}, answer=long)])
    files = report_of(tmp_path / "report", baseline, candidate)
    assert "the first 1500 of 1000000 characters" in page(files).text
    assert files.html.stat().st_size < 100_000
    assert files.markdown.stat().st_size < 5_000
    assert table(files.csv)[0]["candidate_answer"] == long
