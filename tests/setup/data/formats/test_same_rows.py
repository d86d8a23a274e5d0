"""The same conversations give the same rows, whatever they are written in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.setup.command import prepare, rows
from tests.setup.data.formats.conversations import FILES, FORMATS, PACKINGS, PLACES, conversations

TALKS = conversations()
PARTS = ("train_data.jsonl", "test_data.jsonl")


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[list[Any]]:
    """The rows of both sides, as lines of OpenAI's give them."""
    folder = tmp_path_factory.mktemp("expected")
    made = both_sides(folder, "lines.jsonl", "", "openai")
    assert sum(map(len, made)) == len(TALKS) == 50
    assert all(made)
    return made


def both_sides(folder: Path, name: str, packing: str, form: str) -> list[list[Any]]:
    source = folder / f"{name}{packing}"
    source.write_bytes(PACKINGS[packing](FILES[name]([FORMATS[form](talk) for talk in TALKS])))
    return prepared_from(source, folder)


def prepared_from(source: Path | str, folder: Path) -> list[list[Any]]:
    done = prepare(source, folder / "out")
    assert "rows=50 kept=50 rejected=0" in done.out, done.err + done.out
    sides = [rows(folder / "out" / part) for part in PARTS]
    assert [sorted(row["messages"][0]) for side in sides for row in side] == [
        ["content", "role"] for side in sides for _ in side
    ]
    return sides


@pytest.mark.parametrize("name", ["lines.jsonl", "comma.csv", "table.parquet"])
@pytest.mark.parametrize("form", FORMATS)
def test_every_format(tmp_path: Path, expected: list[Any], form: str, name: str) -> None:
    assert both_sides(tmp_path, name, "", form) == expected


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file(tmp_path: Path, expected: list[Any], name: str, packing: str) -> None:
    assert both_sides(tmp_path, name, packing, "sharegpt with a system column") == expected


@pytest.mark.parametrize("place", PLACES)
def test_every_place(tmp_path: Path, expected: list[Any], place: str) -> None:
    source = PLACES[place](tmp_path / "in", [FORMATS["alpaca"](talk) for talk in TALKS])
    assert prepared_from(source, tmp_path) == expected
