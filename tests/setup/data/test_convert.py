"""Rows of a data set to lines of JSON: every row, in order, or no file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from setup.data.rows import encode_row
from tests.setup.command import lamps, prepare, prepared, rows

datasets = pytest.importorskip("datasets")

ROWS = [
    {"note": f"Größe {number}?\n\u2028\u201cx\u201d", "messages": row}
    for number, row in enumerate(lamps(1203))
]


def saved(folder: Path, made: Any) -> Path:
    made.save_to_disk(str(folder))
    return folder


def test_every_row_in_order(tmp_path: Path) -> None:
    source = saved(tmp_path / "in", datasets.Dataset.from_list(ROWS))
    assert prepare(source, tmp_path / "out").code == 0
    place = {row["note"]: number for number, row in enumerate(ROWS)}
    for part in ("train", "test"):
        side = rows(tmp_path / "out" / f"{part}_data.jsonl")
        places = [place[row["note"]] for row in side]
        assert places == sorted(places)
        assert all(row["messages"] == ROWS[place[row["note"]]]["messages"] for row in side)
    assert len(prepared(tmp_path / "out")) == len(ROWS)


def test_selection_and_order_of_the_dataset_count(tmp_path: Path) -> None:
    chosen = [7, 3, 900, *range(40, 20, -1)]
    source = saved(tmp_path / "in", datasets.Dataset.from_list(ROWS).select(chosen))
    assert prepare(source, tmp_path / "out").code == 0
    kept = rows(tmp_path / "out" / "train_data.jsonl")
    notes = [ROWS[number]["note"] for number in chosen]
    places = [notes.index(row["note"]) for row in kept]
    assert places == sorted(places)
    assert {row["note"] for row in prepared(tmp_path / "out")} == set(notes)


def test_failure_leaves_the_file_of_before(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert prepare(saved(tmp_path / "in", datasets.Dataset.from_list(ROWS)), out).code == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    images = datasets.Dataset.from_list([row | {"blob": b"\xff"} for row in ROWS])
    line = prepare(saved(tmp_path / "images", images), out).error
    assert "cannot be written as JSON" in line
    after = {path.name: path.read_bytes() for path in out.iterdir()}
    assert {name for name in before if name.endswith(".jsonl")} <= after.keys()
    assert all(after[name] == before[name] for name in before if name.endswith(".jsonl"))
    assert not [name for name in after if name.endswith(".partial")]


def test_empty_dataset_is_said(tmp_path: Path) -> None:
    empty = datasets.Dataset.from_list(ROWS).select([])
    empty.to_parquet(str(tmp_path / "in.parquet"))
    assert "is empty" in prepare(tmp_path / "in.parquet", tmp_path / "out").error
    line = prepare(saved(tmp_path / "in", empty), tmp_path / "out").error
    assert "is not whole as save_to_disk leaves it" in line
    assert not (tmp_path / "out" / "train_data.jsonl").exists()


def test_row_is_one_line() -> None:
    assert encode_row({"a": "x\ny\u2028"}).count(b"\n") == 1
