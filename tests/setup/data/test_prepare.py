"""Preparation of the sample and of a user's own file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from setup.common.errors import FixableError
from setup.data import DataPlan, describe_data, lint_files, prepare_data
from setup.data.lint import TEST_COLUMNS, TRAIN_COLUMNS
from tests.setup.data.test_lint import GOOD, row, write_lines

ROOT = Path(__file__).parents[3]


def rows(count: int, **more: Any) -> list[dict[str, Any]]:
    return [row(f"Question {n}?", f"Answer {n}.", **more) for n in range(count)]


def file_plan(folder: Path, *content: Any, **more: Any) -> DataPlan:
    source = write_lines(folder / "mine.jsonl", *content)
    return DataPlan(source=str(source), out=folder / "out", **more)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def prompts(path: Path) -> list[str]:
    return [entry["prompt"] for entry in read(path)]


def test_sample_is_linted_and_where_it_was() -> None:
    prepared = prepare_data(DataPlan())
    assert prepared.train == ROOT / "data" / "sample" / "train.jsonl"
    assert prepared.rejected == 0
    assert prepared.train_rows + prepared.test_rows == prepared.rows > 1000


def test_own_file_gets_both_sides_with_their_columns(tmp_path: Path) -> None:
    prepared = prepare_data(file_plan(tmp_path, *rows(200)))
    assert prepared.counts.startswith("rows=200 kept=200 rejected=0 train=")
    assert 20 <= prepared.test_rows <= 60
    assert len(read(prepared.train)) == prepared.train_rows
    columns = [TRAIN_COLUMNS, TEST_COLUMNS]
    assert lint_files([prepared.train, prepared.test], columns).rejected == 0
    first = read(prepared.test)[0]
    number = first["prompt"].removeprefix("Question ").removesuffix("?")
    assert first["question"] == first["prompt"]
    assert first["ground_truth"] == f"Answer {number}."
    assert (first["chat_history"], first["facts"]) == ([], [])
    assert len(first["prompt_id"]) == 64


def test_chat_history_is_in_prompt_flows_form(tmp_path: Path) -> None:
    talks = [row(f"q{n}", "a1", "and then?", "a2") for n in range(40)]
    entry = read(prepare_data(file_plan(tmp_path, *talks)).test)[0]
    earlier = {"inputs": {"question": entry["prompt"]}, "outputs": {"answer": "a1"}}
    assert entry["chat_history"] == [earlier]
    assert (entry["question"], entry["ground_truth"]) == ("and then?", "a2")


def test_given_columns_stay(tmp_path: Path) -> None:
    given = rows(40, prompt_id="mine", topic="radios", facts=["IP67"])
    prepared = prepare_data(file_plan(tmp_path, *given))
    for entry in [*read(prepared.train), *read(prepared.test)]:
        assert (entry["prompt_id"], entry["topic"], entry["facts"]) == ("mine", "radios", ["IP67"])


def test_split_is_stable_under_a_seed_and_differs_with_another(tmp_path: Path) -> None:
    plan = file_plan(tmp_path, *rows(100))
    tests = [
        prompts(prepare_data(replace(plan, seed=seed, out=tmp_path / str(place))).test)
        for place, seed in enumerate((1, 1, 2))
    ]
    assert tests[0] == tests[1] != tests[2]


def test_row_keeps_its_side_when_rows_are_added(tmp_path: Path) -> None:
    before = prompts(prepare_data(file_plan(tmp_path, *rows(60))).test)
    after = prompts(prepare_data(file_plan(tmp_path, *rows(90))).test)
    assert after[: len(before)] == before


def test_conversations_that_open_alike_are_on_one_side(tmp_path: Path) -> None:
    doubles = [row(f"{'  so ' * (n % 2)}Question {n // 2}", f"Answer {n}") for n in range(200)]
    alike = [row(f"QUESTION, {n}", f"other {n}") for n in range(100)]
    plain = [row(f"question {n}", f"Answer {n}") for n in range(100)]
    prepared = prepare_data(file_plan(tmp_path, *alike, *plain, *doubles))
    sides = [
        {p.lower().replace(",", "") for p in prompts(f)} for f in (prepared.train, prepared.test)
    ]
    assert sides[0]
    assert sides[1]
    assert not sides[0] & sides[1]


def test_own_prompt_column_does_not_decide_the_side(tmp_path: Path) -> None:
    prepared = prepare_data(file_plan(tmp_path, *rows(60, prompt="Answer as our support.")))
    assert prepared.test_rows > 0
    assert prompts(prepared.test)[0] == "Answer as our support."


def test_bad_rows_are_counted_and_kept_aside(tmp_path: Path) -> None:
    plan = file_plan(tmp_path, *rows(50), GOOD, GOOD, b"{", row("q", ""))
    prepared = prepare_data(plan)
    assert (prepared.rows, prepared.kept, prepared.rejected) == (54, 51, 3)
    assert prepared.rejects == tmp_path / "out" / "data.rejects.jsonl"
    assert [entry["line"] for entry in read(prepared.rejects)] == [52, 53, 54]


@pytest.mark.parametrize(("others", "pairs"), [(0, 800), (3000, 20)])
def test_rows_that_differ_in_case_alone_are_told_from_those_that_differ_in_a_mark(
    tmp_path: Path, others: int, pairs: int
) -> None:
    """Many of them are compared from the start, few in a second reading: the result is one."""
    first = [row(f"Is C++ {n} worth learning?", f"Answer number {n}") for n in range(pairs)]
    again = [row(f"IS C++ {n} worth learning?", f"Answer number {n}.") for n in range(pairs)]
    marked = [row(f"Is C# {n} worth learning?", f"Answer number {n}") for n in range(pairs)]
    prepared = prepare_data(file_plan(tmp_path, *rows(others), *first, *again, *marked))
    assert prepared.rejected == pairs
    assert prepared.rejects is not None
    lines = [entry["line"] for entry in read(prepared.rejects)]
    assert lines == list(range(others + pairs + 1, others + 2 * pairs + 1))


def run_code(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        command, cwd=ROOT, env=offline, capture_output=True, text=True, check=False
    )


def test_limit_reads_only_so_many_rows(tmp_path: Path) -> None:
    assert prepare_data(file_plan(tmp_path, *rows(2000), limit=700)).rows == 700


def test_too_few_rows_to_split(tmp_path: Path) -> None:
    with pytest.raises(FixableError, match="too few to split"):
        prepare_data(file_plan(tmp_path, GOOD))


@pytest.mark.parametrize("ratio", [0, 1, -0.1, 2])
def test_ratio_must_leave_rows_on_both_sides(ratio: float) -> None:
    with pytest.raises(FixableError, match=r"data\.test_ratio"):
        DataPlan(test_ratio=ratio)


@pytest.mark.parametrize("suffix", [".json", ".parquet", ".jsonl"])
def test_every_file_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"
    content = rows(1200)
    if suffix == ".json":
        path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    elif suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(content), path)
    else:
        write_lines(path, *content)
    prepared = prepare_data(DataPlan(source=str(path), out=tmp_path / "out"))
    plain = prepare_data(file_plan(tmp_path, *content, seed=0))
    assert prompts(prepared.test) == prompts(plain.test)


@pytest.mark.parametrize(
    ("name", "reason"), [("a.json", "not valid JSON"), ("a.parquet", "not a P")]
)
def test_unreadable_file_is_the_users_to_fix(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / name).write_bytes(b"[broken")
    with pytest.raises(FixableError, match=reason):
        prepare_data(DataPlan(source=str(tmp_path / name), out=tmp_path / "out"))


def test_plan_as_text_touches_nothing(tmp_path: Path) -> None:
    plan = DataPlan(source="HuggingFaceH4/ultrachat_200k", out=tmp_path / "out")
    text = "\n".join(describe_data(plan))
    assert "HuggingFaceH4/ultrachat_200k" in text
    assert "train_sft[:1%]" in text
    assert list(tmp_path.iterdir()) == []
    assert "limit" not in describe_data(DataPlan())[0]


LIGHT = "import sys, setup.data; print({'datasets', 'pyarrow', 'numpy'} & set(sys.modules))"


def test_package_imports_without_its_heavy_parts() -> None:
    assert run_code(LIGHT).stdout.strip() == "set()"
