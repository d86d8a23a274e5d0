"""Every source gives the rows that it says: encodings, line ends, tables, folders."""

from __future__ import annotations

import codecs
import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.setup.command import Ended, lamps, options, prepare, prepared, rows, run, write

LAMPS = lamps()
TEXTS = sorted(turn["content"] for row in LAMPS for turn in row)
LINES = [json.dumps({"messages": row}) for row in LAMPS]


def texts(out: Path) -> list[str]:
    """What is said in all rows that were kept."""
    return sorted(turn["content"] for row in prepared(out) for turn in row["messages"])


def as_read(folder: Path, data: bytes, name: str = "in.jsonl") -> Ended:
    (folder / name).write_bytes(data)
    return prepare(folder / name, folder / "out")


TEXT = "\n".join(LINES) + "\n"
ARRAY = json.dumps([{"messages": row} for row in LAMPS], indent=1)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(TEXT.encode("utf-16"), id="utf-16 with its mark"),
        pytest.param(codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), id="utf-16, big end first"),
        pytest.param(TEXT.encode("utf-16-le"), id="utf-16 without a mark"),
        pytest.param(TEXT.encode("utf-32"), id="utf-32"),
        pytest.param(TEXT.replace("\n", "\r").encode(), id="line ends of old Macs"),
        pytest.param(TEXT.replace("\n", "\r\n").encode("utf-16"), id="as Windows saves Unicode"),
        pytest.param(TEXT.replace("\n", "\r", 9).encode(), id="line ends of two kinds"),
        pytest.param(ARRAY.encode(), id="an array named .jsonl"),
        pytest.param(b"\n \n" + ARRAY.encode(), id="an array after blank lines"),
        pytest.param(json.dumps(json.loads(ARRAY)).encode(), id="an array on one line"),
        pytest.param(ARRAY.encode("utf-16"), id="an array in utf-16"),
        pytest.param(codecs.BOM_UTF8 + ARRAY.replace("\n", "\r").encode(), id="an array of a Mac"),
        pytest.param(
            "\n".join(json.dumps(json.loads(line), indent=2) for line in LINES).encode(),
            id="objects over several lines",
        ),
    ],
)
def test_text_file_is_read_as_it_is(tmp_path: Path, data: bytes) -> None:
    done = as_read(tmp_path, data)
    assert f"rows={len(LAMPS)} kept={len(LAMPS)} rejected=0" in done.out, done.err
    assert texts(tmp_path / "out") == TEXTS


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", '{"deep": [NaN]}'])
def test_number_that_json_does_not_have_is_null_and_said(tmp_path: Path, number: str) -> None:
    lines = [f'{{"score": {number}, {line[1:]}' for line in LINES[:20]] + LINES[20:]
    done = as_read(tmp_path, "\n".join(lines).encode())
    assert "note: 20 rows: NaN or Infinity" in done.err
    assert texts(tmp_path / "out") == TEXTS
    scores = [row["score"] for row in prepared(tmp_path / "out") if "score" in row]
    assert scores == [{"deep": [None]} if "deep" in number else None] * 20


TWICE = '"topic": "a", "topic": "b", "messages"'


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (TEXT.replace('"messages"', TWICE, 3), "3 rows: a key stands twice in one object"),
        (
            TEXT.replace('"role": "user"', '"role": "x", "role" :\t"user"', 2),
            "2 rows: a key stands",
        ),
        (TEXT.replace("lamp", '\\\\", "content": "lamp \\"', 1), "1 rows: a key stands twice"),
        (ARRAY.replace('"messages"', TWICE, 1), "note: a key stands twice in one object"),
        (ARRAY[1:-1].replace("},\n {", "}\n {").replace('"messages"', TWICE), "note: a key stands"),
    ],
)
def test_key_that_stands_twice_is_said(tmp_path: Path, data: str, says: str) -> None:
    done = as_read(tmp_path, data.encode())
    assert f"rows={len(LAMPS)} kept={len(LAMPS)}" in done.out, done.err
    assert says in done.err


def test_text_that_looks_like_a_key_is_none(tmp_path: Path) -> None:
    marks = '": \\": \\\\": "content": \\\\'
    given = [[row[0], {**row[1], "content": row[1]["content"] + marks}] for row in LAMPS]
    done = prepare(write(tmp_path / "in.jsonl", *given), tmp_path / "out")
    assert (done.code, "note" in done.err) == (0, False), done.err


def test_number_that_json_does_not_have_is_said_of_an_array(tmp_path: Path) -> None:
    done = as_read(tmp_path, ARRAY.replace('"messages"', '"score": NaN, "messages"').encode())
    assert "note: NaN or Infinity, which JSON does not have, is null now" in done.err
    assert texts(tmp_path / "out") == TEXTS


def test_nan_as_content_is_no_text(tmp_path: Path) -> None:
    bad = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": NaN}]}'
    done = as_read(tmp_path, f"{TEXT}{bad}\n".encode())
    assert f"rejected in.jsonl:{len(LINES) + 1}: turn 2 has null as content" in done.err


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (
            ("[" + ",\n".join(LINES) + ",\n]").encode(),
            ["trailing comma", "delete the last comma, in line 24, column "],
        ),
        (TEXT.encode("utf-16")[:-1], ["not whole as UTF-16", "UTF-8"]),
    ],
)
def test_text_file_that_cannot_be_read(tmp_path: Path, data: bytes, says: list[str]) -> None:
    line = as_read(tmp_path, data).error
    assert all(part in line for part in says), line


def table(folder: Path, kind: pa.DataType | None, values: list[Any], **more: Any) -> Path:
    columns = {"messages": pa.array(values, kind), **more}
    parquet.write_table(pa.table(columns), folder / "in.parquet")
    return folder / "in.parquet"


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([json.dumps(row) for row in LAMPS], id="JSON text"),
        pytest.param([[json.dumps(turn) for turn in row] for row in LAMPS], id="turns as text"),
        pytest.param(
            [{key: [turn[key] for turn in row] for key in ("role", "content")} for row in LAMPS],
            id="a list a field",
        ),
    ],
)
def test_messages_in_the_forms_of_tables(tmp_path: Path, values: list[Any]) -> None:
    done = prepare(table(tmp_path, None, values), tmp_path / "out")
    assert done.code == 0, done.err
    assert texts(tmp_path / "out") == TEXTS


def json_texts(values: list[Any]) -> pa.Array:
    return pa.ExtensionArray.from_storage(
        pa.json_(), pa.array(map(json.dumps, values), pa.string())
    )


def test_json_columns_of_a_table_are_decoded_wherever_they_are_nested(tmp_path: Path) -> None:
    turns = [turn for row in LAMPS for turn in row]
    role = pa.array([turn["role"] for turn in turns])
    content = json_texts([turn["content"] for turn in turns])
    struct = pa.StructArray.from_arrays([role, content], ["role", "content"])
    messages = pa.ListArray.from_arrays(list(range(0, 49, 2)), struct)
    tags = pa.ListArray.from_arrays(list(range(0, 73, 3)), json_texts(["x", [1], None] * 24))
    meta = pa.StructArray.from_arrays([tags], ["tags"])
    parquet.write_table(pa.table({"messages": messages, "meta": meta}), tmp_path / "in.parquet")
    prepare(tmp_path / "in.parquet", tmp_path / "out")
    assert texts(tmp_path / "out") == TEXTS
    assert prepared(tmp_path / "out")[0]["meta"] == {"tags": ["x", [1], None]}


def test_values_that_json_has_no_type_for(tmp_path: Path) -> None:
    digits = "12345678901234567890.123456789"
    prices = pa.array([Decimal("19.99"), Decimal(digits)] * 12)
    assert prepare(table(tmp_path, None, LAMPS, price=prices), tmp_path / "out").code == 0
    assert {row["price"] for row in prepared(tmp_path / "out")} == {19.99, digits}
    line = prepare(
        table(tmp_path, None, LAMPS, blob=pa.array([b"\xff"] * 24)), tmp_path / "x"
    ).error
    assert "column blob of a row cannot be written as JSON" in line


MIXED = [
    pytest.param(["hi"], "a list as content", id="texts"),
    pytest.param([{"type": "image_url"}], "an image part (image_url)", id="image"),
    pytest.param(7, "an int as content", id="number"),
    pytest.param(None, "null as content", id="null"),
    pytest.param(True, "a bool as content", id="truth"),
]


@pytest.mark.parametrize(("content", "reason"), MIXED)
@pytest.mark.parametrize("form", ["folder", "saved"])
def test_one_content_of_another_type_changes_no_other(
    tmp_path: Path, content: Any, reason: str, form: str
) -> None:
    odd = [{"role": "user", "content": content}, {"role": "assistant", "content": "No."}]
    source = tmp_path / "in"
    if form == "folder":
        write(source / "train.jsonl", *LAMPS[:5], odd, *LAMPS[5:])
    else:
        mixed = [{"messages": row} for row in [*LAMPS[:5], odd, *LAMPS[5:]]]
        datasets.Dataset.from_list(mixed, on_mixed_types="use_json").save_to_disk(str(source))
    done = prepare(source, tmp_path / "out", split="train")
    assert f"kept={len(LAMPS)} rejected=1" in done.out, done.err
    assert f"turn 1 has {reason}" in done.err
    assert texts(tmp_path / "out") == TEXTS


def test_rows_of_a_folder_stay_as_their_file_says(tmp_path: Path) -> None:
    """Arguments of two types, dates, whole numbers among others, keys that some rows lack."""
    extras: list[dict[str, Any]] = [
        {"facts": ["IP67"], "day": "2024-01-01", "n": 1},
        {"facts": "none", "n": 1.5},
        {"meta": {"a": [1, "x", None]}},
    ]
    given = []
    for number, row in enumerate(LAMPS):
        arguments = "{}" if number % 2 else {"a": 1}
        turns = [
            row[0],
            {**row[1], "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]},
        ]
        given.append({"messages": turns, **extras[number % 3]})
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, given)))
    assert prepare(folder, tmp_path / "out", split="train").code == 0
    kept = rows(tmp_path / "out" / "train_data.jsonl")
    made = [{key: row[key] for key in row if key not in {"prompt", "prompt_id"}} for row in kept]
    assert len(made) > 10
    assert all(row in given for row in made)


def test_cut_line_in_a_folder_is_one_rejected_row(tmp_path: Path) -> None:
    source = write(tmp_path / "in" / "train.jsonl", *LAMPS)
    source.write_text(f"{LINES[0][:40]}\n{source.read_text()}")
    done = prepare(tmp_path / "in", tmp_path / "out", split="train")
    assert "rejected train.jsonl:1: not valid JSON" in done.err
    assert texts(tmp_path / "out") == TEXTS


def saved(folder: Path) -> Path:
    datasets.Dataset.from_list([{"messages": row} for row in LAMPS]).save_to_disk(str(folder))
    return folder


def saved_dict(folder: Path) -> Path:
    splits = {"train": LAMPS, "test": LAMPS[:3]}
    parts = {
        name: datasets.Dataset.from_list([{"messages": row} for row in part])
        for name, part in splits.items()
    }
    datasets.DatasetDict(parts).save_to_disk(str(folder))
    return folder


def configured(folder: Path) -> Path:
    write(folder / "nb" / "a.jsonl", *lamps(3))
    write(folder / "en" / "a.jsonl", *LAMPS)
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: nb\n  data_files:\n  - split: train\n    path: nb/*.jsonl\n"
        "- config_name: en\n  default: true\n  data_files:\n  - split: train\n"
        "    path: en/*.jsonl\n---\n"
    )
    return folder


def plain(folder: Path) -> Path:
    write(folder / "a.jsonl", *LAMPS[:10])
    write(folder / "b.jsonl", *LAMPS[10:])
    return folder


@pytest.mark.parametrize("make", [saved, saved_dict, configured, plain])
def test_folder_needs_no_option_and_no_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    folder = make(tmp_path / "in")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", Path(os.devnull) / "cache")
    done = prepare(folder, tmp_path / "out")
    assert f"note: read from {folder}: train" in done.err
    assert texts(tmp_path / "out") == TEXTS


@pytest.mark.parametrize(("split", "count"), [("train[:50%]", 12), ("train[4:]+test", 23)])
@pytest.mark.parametrize("form", ["jsonl", "json", "parquet", "saved"])
def test_slices_of_a_folder(tmp_path: Path, form: str, split: str, count: int) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    if form == "saved":
        saved_dict(folder)
    for name, part in (("train", LAMPS), ("test", lamps(27)[24:])) if form != "saved" else ():
        if form == "parquet":
            parquet.write_table(pa.table({"messages": part}), folder / f"{name}.parquet")
        else:
            write(folder / f"{name}.jsonl", *part)
        if form == "json":
            content = json.dumps([{"messages": row} for row in part], indent=1)
            (folder / f"{name}.jsonl").unlink()
            (folder / f"{name}.json").write_text(content)
    done = run("data", *options(source=folder, out=tmp_path / "out", split=split))
    assert f"rows={count}" in done.out, done.err


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        ({"config": "de"}, ["only: nb, en", "--set data.config=nb"]),
        ({"split": "nope"}, ["no slice nope", "only: train", "--set data.split=train"]),
        ({"split": "train[:x%]"}, ["no slice train[:x%]"]),
    ],
)
def test_wrong_config_or_split_names_those_that_there_are(
    tmp_path: Path, sets: Any, says: list[str]
) -> None:
    line = prepare(configured(tmp_path / "in"), tmp_path / "out", **sets).error
    assert all(part in line for part in says), line


def test_files_of_a_folder_that_are_not_read_are_named(tmp_path: Path) -> None:
    write(tmp_path / "in" / "train.jsonl", *LAMPS)
    write(tmp_path / "in" / "test.jsonl", *LAMPS[:3])
    parquet.write_table(pa.table({"messages": LAMPS}), tmp_path / "in" / "more.parquet")
    done = prepare(tmp_path / "in", tmp_path / "out")
    assert "train, not test" in done.err
    assert "not read, for no split has them: more.parquet" in done.err


@pytest.mark.parametrize("name", ["notes.csv", "old.tsv", "more/a.JSONL"])
def test_files_of_other_kinds_in_a_folder_are_named(tmp_path: Path, name: str) -> None:
    write(tmp_path / "in/a.jsonl", *LAMPS)
    other = tmp_path / "in" / name
    other.parent.mkdir(exist_ok=True)
    other.write_text("question,answer\n")
    assert (
        f"not read, for no split has them: {name}" in prepare(tmp_path / "in", tmp_path / "o").err
    )


def test_readme_that_is_no_yaml_is_one_line(tmp_path: Path) -> None:
    write(tmp_path / "in/a.jsonl", *LAMPS)
    (tmp_path / "in/README.md").write_text("---\nconfigs: [\n---\n")
    assert "README.md is no YAML" in prepare(tmp_path / "in", tmp_path / "out").error


def test_split_of_a_file_is_not_used_and_that_is_said(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", *LAMPS)
    done = prepare(source, tmp_path / "out", split="train[:10%]", config="nb")
    assert "note: data.split and data.config not used: " in done.err
    assert f"rows={len(LAMPS)} " in done.out
    assert (
        "note: data.split"
        in prepare(source, tmp_path / "out", split="train[:10%]", config="nb").err
    )
