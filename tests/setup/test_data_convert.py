"""Conversion of a dataset to JSONL: every row, in order, or no file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from setup.common.errors import FixableError
from setup.data.convert import convert_dataset, encode_row

datasets = pytest.importorskip("datasets")

ROWS = [
    {"prompt": f"Größe {n}?\n\u2028", "messages": [{"role": "user", "content": "\u201cx\u201d"}]}
    for n in range(1203)
]


def test_every_row_in_order(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert convert_dataset(datasets.Dataset.from_list(ROWS), path) == len(ROWS)
    lines = path.read_bytes().decode("utf-8").split("\n")
    assert lines.pop() == ""
    assert [json.loads(line) for line in lines] == ROWS


def test_selection_and_order_of_the_dataset_count(tmp_path: Path) -> None:
    picked = datasets.Dataset.from_list(ROWS).select([7, 3, 900])
    convert_dataset(picked, tmp_path / "rows.jsonl")
    lines = (tmp_path / "rows.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert [json.loads(line) for line in lines] == [ROWS[7], ROWS[3], ROWS[900]]


def test_failure_leaves_the_file_of_before(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("before", encoding="utf-8")
    images = datasets.Dataset.from_dict({"blob": [b"\xff"] * 3})
    with pytest.raises(FixableError, match="cannot be written as JSON"):
        convert_dataset(images, path)
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]
    assert path.read_text(encoding="utf-8") == "before"


def test_empty_dataset_gives_an_empty_file(tmp_path: Path) -> None:
    assert convert_dataset(datasets.Dataset.from_list([]), tmp_path / "rows.jsonl") == 0
    assert (tmp_path / "rows.jsonl").read_bytes() == b""


def test_row_is_one_line() -> None:
    assert encode_row({"a": "x\ny\u2028"}).count(b"\n") == 1
