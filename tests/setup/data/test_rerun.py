"""A second run, a changed run, a crashed run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from setup.common.errors import FixableError
from setup.data import DataPlan, lint_files, prepare_data
from tests.setup.data.test_lint import write_lines
from tests.setup.data.test_prepare import file_plan, read, rows, run_code


def test_second_run_finds_the_work_done(tmp_path: Path) -> None:
    plan = file_plan(tmp_path, *rows(50), b"{")
    first = prepare_data(plan)
    stamp = first.train.stat().st_mtime_ns
    second = prepare_data(plan)
    assert second == replace(first, already_there=True)
    assert second.train.stat().st_mtime_ns == stamp


def touched_output(plan: DataPlan) -> DataPlan:
    (plan.out / "test_data.jsonl").write_text("edited", encoding="utf-8")
    return plan


def changed_source(plan: DataPlan) -> DataPlan:
    write_lines(Path(plan.name), *rows(51))
    return plan


def broken_manifest(plan: DataPlan) -> DataPlan:
    (plan.out / "data.manifest.json").write_text("{", encoding="utf-8")
    return plan


def manifest_without_counts(plan: DataPlan) -> DataPlan:
    return edited_note(plan, counts={"rows": 50})


def manifest_with_other_notes(plan: DataPlan) -> DataPlan:
    return edited_note(plan, notes=None)


def edited_note(plan: DataPlan, **changes: Any) -> DataPlan:
    path = plan.out / "data.manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes), encoding="utf-8")
    return plan


def deleted_rejects(plan: DataPlan) -> DataPlan:
    (plan.out / "data.rejects.jsonl").unlink()
    return plan


def another_ratio(plan: DataPlan) -> DataPlan:
    return replace(plan, test_ratio=0.5)


@pytest.mark.parametrize(
    "change",
    [
        touched_output,
        changed_source,
        broken_manifest,
        manifest_without_counts,
        manifest_with_other_notes,
        deleted_rejects,
        another_ratio,
    ],
)
def test_changed_run_is_done_again(tmp_path: Path, change: Any) -> None:
    plan = file_plan(tmp_path, *rows(50), b"{")
    prepare_data(plan)
    again = prepare_data(change(plan))
    assert not again.already_there
    assert lint_files([again.train, again.test]).rejected == 0


def test_rejects_of_an_earlier_run_do_not_stay(tmp_path: Path) -> None:
    prepare_data(file_plan(tmp_path, *rows(50), b"{"))
    assert prepare_data(file_plan(tmp_path, *rows(50))).rejects is None
    assert not (tmp_path / "out" / "data.rejects.jsonl").exists()


CRASH = """
import os, sys
from pathlib import Path
from setup.data import DataPlan, prepare_data
renames = []
def crash(event, args):
    if event == "os.rename":
        renames.append(args)
        if len(renames) == int(sys.argv[3]):
            os._exit(9)
sys.addaudithook(crash)
prepare_data(DataPlan(source=sys.argv[1], out=Path(sys.argv[2])))
"""


@pytest.mark.parametrize("rename", [1, 2, 3, 4])
def test_crash_leaves_no_half_written_file(tmp_path: Path, rename: int) -> None:
    plan = file_plan(tmp_path, *rows(50), b"{")
    assert run_code(CRASH, plan.name, str(plan.out), str(rename)).returncode == 9
    named = [path for path in plan.out.iterdir() if not path.name.endswith(".partial")]
    assert len(named) == rename - 1
    assert all(read(path) for path in named)
    assert not prepare_data(plan).already_there
    assert {path.name for path in plan.out.iterdir()} == {
        "train_data.jsonl",
        "test_data.jsonl",
        "data.rejects.jsonl",
        "data.manifest.json",
    }


def test_failure_in_the_middle_keeps_what_stood_before(tmp_path: Path) -> None:
    plan = file_plan(tmp_path, *rows(50))
    before = prepare_data(plan).train.read_bytes()
    write_lines(Path(plan.name), b"{", b"{")
    with pytest.raises(FixableError, match="no usable row"):
        prepare_data(plan)
    assert (plan.out / "train_data.jsonl").read_bytes() == before
    assert not list(plan.out.glob(".*.partial"))
