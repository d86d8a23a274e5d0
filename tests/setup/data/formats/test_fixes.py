"""A row or a file that cannot be used has the fix that helps, and its command works as printed."""

from __future__ import annotations

import gzip
import json
import lzma
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.setup.command import lamps, prepare, prepared, write

UNREAD = {
    "preference pairs": (
        [{"prompt": "q", "chosen": "a", "rejected": "b"}],
        "--set data.columns.completion=chosen",
    ),
    "plain text": ([{"text": "once"}], "messages"),
    "columns are foo, bar": (
        [{"foo": "1", "bar": "2"}],
        "--set data.columns.question=foo --set data.columns.answer=bar",
    ),
    "columns are n, m": ([{"n": 1, "m": 2}], "--set data.columns.question=COLUMN"),
}


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
@pytest.mark.parametrize(("name", "case"), UNREAD.items(), ids=UNREAD)
def test_row_of_no_format_says_what_helps(
    tmp_path: Path, name: str, case: Any, suffix: str
) -> None:
    given, fix = case
    (tmp_path / f"in{suffix}").write_text(
        json.dumps(given[0]) if suffix == ".jsonl" else json.dumps(given)
    )
    line = prepare(tmp_path / f"in{suffix}", tmp_path / "out").error
    assert name in line.lower()
    assert fix in line.partition("Fix: ")[2]


TURNS = {
    "developer": ([{"role": "developer", "content": "Brief."}], 'write "system" for "developer"'),
    "turn 1 is tool": ([{"role": "tool", "content": "42"}], "each answer of a tool a call"),
    "turn 1 is tool, expected user": (
        [{"role": "function", "content": "42"}],
        "each answer of a tool a call",
    ),
    "gpt": ([{"role": "gpt", "content": "42"}], 'write "assistant" for "gpt"'),
    "calls a tool": (
        [lamps(1)[0][0], {"role": "assistant", "content": None, "tool_calls": [{}]}],
        "give each call a function with a name",
    ),
    "a list as content": (
        [{"role": "user", "content": [{"type": "text"}]}],
        "write the text itself",
    ),
    "weight 2": ([lamps(1)[0][0], {**lamps(1)[0][1], "weight": 2}], "the weight 0 or 1"),
    "weight True": ([lamps(1)[0][0], {**lamps(1)[0][1], "weight": True}], "the weight 0 or 1"),
    "weight '0'": ([lamps(1)[0][0], {**lamps(1)[0][1], "weight": "0"}], "the weight 0 or 1"),
    "only answers are learnt": (
        [{**lamps(1)[0][0], "weight": 1}, lamps(1)[0][1]],
        "take the weight away",
    ),
    "an int as content": ([{**lamps(1)[0][0], "content": 5}, lamps(1)[0][1]], "numbers as text"),
    "a float as content": ([{**lamps(1)[0][0], "content": 0.5}, lamps(1)[0][1]], "numbers as text"),
    "role 'User'": (
        [{**lamps(1)[0][0], "role": "User"}, lamps(1)[0][1]],
        'write "user" for "User"',
    ),
    "role 'user '": ([{**lamps(1)[0][0], "role": "user "}, lamps(1)[0][1]], 'write "user"'),
    "nothing to learn": ([lamps(1)[0][0], {**lamps(1)[0][1], "weight": 0}], "the weight 1"),
}


@pytest.mark.parametrize(("reason", "case"), TURNS.items(), ids=TURNS)
def test_turn_that_cannot_be_used_has_its_own_fix(tmp_path: Path, reason: str, case: Any) -> None:
    turns, fix = case
    line = prepare(write(tmp_path / "in.jsonl", turns), tmp_path / "out").error
    assert reason in line.partition("Fix: ")[0]
    assert fix in line.partition("Fix: ")[2]


def follow(line: str) -> Path:
    """Do what a fix says in a shell; returns the source that it names."""
    command, _, source = line.partition("Fix: ")[2].partition(", then --set data.source=")
    command = command.rpartition("for example ")[2]
    subprocess.run(["bash", "-ec", command], check=True)
    return Path(shlex.split(source)[0])


def literals(file: Path) -> None:
    file.write_text("".join(f"{ {'messages': row} }\n" for row in lamps()))


def latin(file: Path) -> None:
    text = "".join(json.dumps({"messages": row}, ensure_ascii=False) + "\n" for row in lamps())
    file.write_bytes(text.replace("lamp", "lämp").encode("latin-1"))


def packed(file: Path) -> None:
    write(file, *lamps())
    file.with_name(f"{file.name}.xz").write_bytes(lzma.compress(file.read_bytes()))
    file.unlink()


def latin_table(file: Path) -> None:
    text = "question,answer\n" + "".join(f"Lämp {n}?,{n} euros\n" for n in range(24))
    file.with_suffix(".csv").write_bytes(text.encode("latin-1"))


def wrapped(file: Path) -> None:
    given = [{"messages": row} for row in lamps()]
    file.with_suffix(".json").write_text(json.dumps({"version": 1, "data": given}))


@pytest.mark.parametrize("make", [literals, latin, latin_table, packed, wrapped])
def test_command_of_a_fix_works_as_it_is_printed(tmp_path: Path, make: Any) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    make(folder / "my rows.jsonl")
    (source,) = folder.iterdir()
    made = follow(prepare(source, tmp_path / "out").error)
    assert prepare(made, tmp_path / "out").code == 0
    assert len(prepared(tmp_path / "out")) == 24


@pytest.mark.parametrize(
    ("data", "says"),
    [
        # The time in a gzip header would give each worker of pytest-xdist another test.
        (gzip.compress(b'{"messages": []}', mtime=0), "a gzip archive"),
        (b"PK\x03\x04\xff\xfe", "a zip archive"),
        (b"PAR1\x15\xff", "a Parquet file"),
    ],
    ids=["gzip", "zip", "parquet"],
)
def test_packed_file_under_the_name_of_text_is_not_recoded(
    tmp_path: Path, data: bytes, says: str
) -> None:
    (tmp_path / "in.jsonl").write_bytes(data)
    error = prepare(tmp_path / "in.jsonl", tmp_path / "out").error
    assert f"this is {says}" in error
    assert "iconv" not in error
