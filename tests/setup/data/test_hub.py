"""Datasets by name: a folder laid out like a dataset of the hub stands in for the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from pyarrow import parquet

from setup.common.errors import FixableError
from setup.data import DataPlan, Prepared, prepare_data
from tests.setup.command import lamps, prepare, prepared, write
from tests.setup.data.test_prepare import prompts, rows, run_code


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def hub_folder(tmp_path: Path) -> Path:
    """A dataset as the hub lays it out: one Parquet file a split."""
    folder = tmp_path / "ultrachat"
    (folder / "data").mkdir(parents=True)
    for split, count in (("train_sft", 400), ("test_sft", 20)):
        table = pa.Table.from_pylist(rows(count, prompt_id="x"))
        parquet.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


def hub(folder: Path, **more: Any) -> Prepared:
    return prepare_data(DataPlan(source=str(folder), out=folder.parent / "out", **more))


def test_hub_slice(hub_folder: Path) -> None:
    prepared = hub(hub_folder, split="train_sft[:50%]")
    assert prepared.rows == 200
    assert prompts(prepared.train)[0].startswith("Question ")
    assert hub(hub_folder, split="train_sft[:50%]").already_there
    assert hub(hub_folder, split="train_sft[50%:]").already_there is False


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"split": "nope"}, "has no slice nope"),
        ({"split": "train_sft[:x%]"}, "has no slice"),
        ({"config": "other", "split": "train_sft"}, "in config other"),
    ],
)
def test_wrong_slice_or_config(hub_folder: Path, more: Any, reason: str) -> None:
    with pytest.raises(FixableError, match=reason) as caught:
        hub(hub_folder, **more)
    assert "\n" not in str(caught.value)


ABSENT = """
import sys
from pathlib import Path
from setup.data import DataPlan, prepare_data
from setup.common.errors import FixableError
try:
    prepare_data(DataPlan(source=sys.argv[1], out=Path(sys.argv[2])))
except FixableError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("source", "reason"),
    [("no-one/nothing-here", "cannot download no-one/nothing-here"), ("./absent", "no dataset")],
)
def test_dataset_that_cannot_be_had(tmp_path: Path, source: str, reason: str) -> None:
    done = run_code(ABSENT, source, str(tmp_path / "out"))
    (line,) = done.stdout.splitlines()
    assert reason in line
    assert "Fix: " in line
    assert not (tmp_path / "out").exists()


def test_set_of_the_hub_without_the_default_split_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of JSON that `datasets` itself reads, in the place of the hub."""
    given = [*lamps(20), [{"role": "user", "content": 7}, {"role": "assistant", "content": "x"}]]
    write(tmp_path / "there" / "train.jsonl", *given)
    load = datasets.load_dataset
    monkeypatch.setattr(
        "datasets.load_dataset",
        lambda _, *given, **more: load(str(tmp_path / "there"), *given, **more),
    )
    done = prepare("someone/chats", tmp_path / "out")
    assert "note: read from someone/chats: train\n" in done.err
    assert "rejected someone/chats:21: turn 1 has an int as content" in done.err
    kept = prepared(tmp_path / "out")
    assert sorted(row["messages"][1]["content"] for row in kept) == sorted(
        row[1]["content"] for row in lamps(20)
    )
    assert "(unchanged)" in prepare("someone/chats", tmp_path / "out").out
    line = prepare("someone/chats", tmp_path / "other", split="nope").error
    assert "no slice nope in config default, only: train" in line
