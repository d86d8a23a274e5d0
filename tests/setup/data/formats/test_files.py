"""Tables and packed files as people have them, and what is said of those that cannot be read."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pyarrow as pa
import pytest

from tests.setup.command import prepare, prepared

NUMBERS = range(24)


def table(head: str, row: str, end: str = "\n") -> str:
    return head + end + "".join(row.format(n) + end for n in NUMBERS)


def answers(out: Path) -> set[str]:
    return {row["messages"][-1]["content"] for row in prepared(out)}


AS_TABLES = {
    "as Excel saves it": (table("sep=;\nquestion;answer", 'Lamp {0}, "x";A {0}'), "a semicolon"),
    "bars": (table("question|answer", "Lamp, {0}|A {0}"), "a bar"),
    "tabs under the name of commas": (table("question\tanswer", "Lamp, {0}\tA {0}"), "a tab"),
    "old Mac": (table("question,answer", '"Lamp {0}\rtwo",A {0}', "\r"), ""),
    "Windows": (table("question,answer", '"Lamp {0}\r\ntwo",A {0}', "\r\n"), ""),
    "numbered": (table(",question,answer", "{0},Lamp {0},A {0}"), ""),
    "white space in names": (table(" question , answer ", "Lamp {0},A {0}"), ""),
    "blank lines": (table("\n\nquestion,answer\n", "\nLamp {0},A {0}"), ""),
    "semicolons in texts": (table("question,answer", "Lamp; {0}; or not,A {0}"), ""),
    "a long text": (table("question,answer", f"{'Lamp ' * 50_000}{{0}},A {{0}}"), ""),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(("text", "says"), AS_TABLES.values(), ids=AS_TABLES)
def test_table_is_read_as_it_is(tmp_path: Path, text: str, says: str, encoding: str) -> None:
    (tmp_path / "in.csv").write_bytes(text.encode(encoding))
    done = prepare(tmp_path / "in.csv", tmp_path / "out")
    assert "kept=24 rejected=0" in done.out, done.err
    expected = {f"A {n}" for n in NUMBERS}
    assert {answer.strip('"') for answer in answers(tmp_path / "out")} == expected
    assert ("are separated by" in done.err) == bool(says)
    assert says in done.err


def test_row_that_does_not_fit_is_rejected_with_its_line(tmp_path: Path) -> None:
    bad = 'q,a,more\nalone\n"x"y,z\n"two\nlines",a,b\n'
    (tmp_path / "in.csv").write_text(table("question,answer", "Lamp {0},A {0}") + bad)
    done = prepare(tmp_path / "in.csv", tmp_path / "out")
    assert "kept=24 rejected=4" in done.out
    assert "rejected in.csv:26: it has 3 columns, the line of their names 2" in done.err
    assert "rejected in.csv:27: it has 1 columns" in done.err
    assert "rejected in.csv:28: not valid CSV: ',' expected after" in done.err
    assert "rejected in.csv:29: it has 3 columns" in done.err
    assert '["alone"]' in (tmp_path / "out" / "data.rejects.jsonl").read_text().replace("\\", "")


def test_quotes_of_an_odd_dialect_survive(tmp_path: Path) -> None:
    said = [('He said: "no", \'yes\'; {}\n\n"', 'A\t"{}"|') for _ in NUMBERS]
    text = io.StringIO()
    writer = csv.writer(text, csv.unix_dialect)
    writer.writerow(["question", "answer"])
    writer.writerows([(q.format(n), a.format(n)) for n, (q, a) in enumerate(said)])
    (tmp_path / "in.csv").write_text(text.getvalue())
    assert "kept=24" in prepare(tmp_path / "in.csv", tmp_path / "out").out
    assert answers(tmp_path / "out") == {f'A\t"{n}"|' for n in NUMBERS}


GOOD = table("question,answer", "Lamp {0},A {0}").encode()
BROKEN = {
    "no end of a quote": ("in.csv", GOOD + b'"open,\nmore\nand more\n', "in.csv:26 begins a text"),
    "Latin letters": (
        "in.csv",
        GOOD + "Käse,A\n".encode("latin-1"),
        "in.csv:26 is not UTF-8 (byte 2 of the line is 0xE4)",
    ),
    "half of UTF-16": ("in.csv", GOOD.decode().encode("utf-16")[:-1], "not whole as UTF-16"),
    "two columns of a name": ("in.csv", b"a,b,a\n1,2,3\n", "two columns of"),
    "nothing": ("in.csv", b"", "is empty"),
    "names alone": ("in.csv", b"question,answer\n", "is empty"),
    "no names": ("in.csv", GOOD.partition(b"\n")[2], "the first line must name the columns"),
    "lists as pandas writes them": (
        "in.csv",
        b"conversations\n\"[{'from': 'human', 'value': 'q'}, {'from': 'gpt', 'value': 'a'}]\"\n",
        "are Python literals, not JSON. Fix: write them as JSON",
    ),
    "messages as pandas writes them": (
        "in.csv",
        b"messages\n\"[{'role': 'user', 'content': 'q'}]\"\n",
        "its messages are Python literals, not JSON. Fix: write them as JSON",
    ),
    "cut gzip": ("in.csv.gz", gzip.compress(GOOD)[:-9], "in.csv.gz is not whole as gzip"),
    "no gzip": ("in.jsonl.gz", GOOD, "in.jsonl.gz is not whole as gzip"),
    "no Zstandard": ("in.jsonl.zst", GOOD, "in.jsonl.zst is not whole as Zstandard"),
    "packed rubbish": ("in.parquet.gz", gzip.compress(GOOD), "is not a Parquet file"),
    "no Arrow": ("in.arrow", GOOD, "in.arrow is not an Arrow file"),
    "no text packed": ("in.json.gz", gzip.compress(b"[\xe4]"), "in.json.gz:1 is not UTF-8"),
}


@pytest.mark.parametrize(("name", "data", "says"), BROKEN.values(), ids=BROKEN)
def test_file_that_cannot_be_read_is_one_line(
    tmp_path: Path, name: str, data: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(data)
    assert says in prepare(tmp_path / name, tmp_path / "out").error
    assert not (tmp_path / "out" / "train_data.jsonl").exists()


def test_frames_one_after_another_are_one_file(tmp_path: Path) -> None:
    lines = GOOD.splitlines(keepends=True)
    halves = [b"".join(lines[:10]), b"".join(lines[10:])]
    (tmp_path / "in.csv.gz").write_bytes(b"".join(map(gzip.compress, halves)))
    with (tmp_path / "in.csv.zst").open("wb") as file:
        for half in halves:
            made = pa.BufferOutputStream()
            with pa.CompressedOutputStream(made, "zstd") as packed:
                packed.write(half)
            file.write(made.getvalue().to_pybytes())
    for name in ("in.csv.gz", "in.csv.zst"):
        assert "kept=24" in prepare(tmp_path / name, tmp_path / name.rpartition(".")[2]).out
