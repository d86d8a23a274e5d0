"""The records of a data file: JSON lines, a JSON array, or a table with a header (CSV, TSV)."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from setup.common.errors import FixableError
from setup.common.json_rows import ARRAY, read_objects, read_utf8

_TABLES = {".csv", ".tsv"}
_SEPARATORS = ",;\t"
_LARGEST_CELL = 2**31 - 1
# How files begin that are no text, what they are, and the command that makes JSON lines of them.
_BINARY = {
    b"PAR1": (
        "Parquet",
        "python -c \"import pandas; pandas.read_parquet('{path}')"
        ".to_json('{stem}.jsonl', orient='records', lines=True)\"",
    ),
    b"PK\x03\x04": ("a zip or Excel file", ""),
    b"\x1f\x8b": ("compressed", "gunzip {path}"),
}


@dataclass(frozen=True)
class Record:
    """One object of the file and ``where`` it stands; a table's values are text, or None."""

    where: str
    content: dict[str, Any]
    is_text: bool = False


def read_records(path: Path) -> list[Record]:
    """The records in ``path``."""
    _refuse_binary(path)
    if path.suffix.lower() in _TABLES:
        return list(_read_table(path, read_utf8(path)))
    rows, form = read_objects(path)
    if len(rows) == 1 and form != ARRAY and path.suffix.lower() == ".json":
        _refuse_wrapped(path, rows[0][1])
    return [Record(where, row) for where, row in rows]


def _refuse_binary(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(4)
    for mark, (kind, command) in _BINARY.items():
        if start.startswith(mark):
            fix = command.format(path=path, stem=path.with_suffix(""))
            raise FixableError(f"{path} is {kind}", fix or "save it as CSV, in UTF-8")


def _refuse_wrapped(path: Path, whole: dict[str, Any]) -> None:
    """Which list of an object holds the rows is the user's to say."""
    lists = [
        name
        for name, value in whole.items()
        if isinstance(value, list)
        and value
        and isinstance(value[0], dict)
        # A list of turns is a conversation: the object is itself a row.
        and "role" not in value[0]
    ]
    if lists and "question" not in whole:
        name, rows = lists[0], path.with_suffix(".rows.json")
        raise FixableError(
            f"{path} is one object with {', '.join(whole)}, not a list of rows",
            f'python -c "import json; json.dump(json.load(open({str(path)!r}))[{name!r}], '
            f"open({str(rows)!r}, 'w'))\", then --data {rows}",
        )


def _read_table(path: Path, text: str) -> Iterator[Record]:
    csv.field_size_limit(_LARGEST_CELL)
    separator = _separator(text)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    header: list[str] = []
    try:
        for cells in lines:
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [cell.strip() for cell in cells]
                _check_header(path, header)
                continue
            if len(cells) != len(header):
                raise FixableError(
                    f"{path}:{lines.line_num} has {_cells(len(cells))}, the header has "
                    f"{len(header)}",
                    f"put a text that holds {separator!r} between double quotes",
                )
            named = [pair for pair in zip(header, cells, strict=True) if pair[0]]
            row = {name: cell if cell.strip() else None for name, cell in named}
            yield Record(f"{path}:{lines.line_num}", row, is_text=True)
    except csv.Error as error:
        problem = f"{path}:{lines.line_num} is not CSV: {error}"
        raise FixableError(problem, 'a double quote inside of a text is written ""') from None


def _separator(text: str) -> str:
    """The one that makes most columns of the header: spreadsheets of some countries write ``;``."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    return max(_SEPARATORS, key=lambda mark: len(next(csv.reader([header], delimiter=mark), [])))


def _check_header(path: Path, header: list[str]) -> None:
    twice = [name for name, count in Counter(header).items() if name and count > 1]
    if twice:
        what = f"{path}: column {twice[0]} stands twice in the header ({', '.join(header)})"
        raise FixableError(what, "give every column a name of its own")


def _cells(count: int) -> str:
    return f"{count} cell" if count == 1 else f"{count} cells"
