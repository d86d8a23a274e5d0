"""Rows of CSV and TSV files: what separates the columns is told by the line of their names."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from setup.common.errors import FixableError
from setup.common.json_rows import text_lines
from setup.common.unpack import plain_suffix
from setup.data.formats.source import Record

_SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
_SAID_BY_EXCEL = re.compile(r'"?sep=(.)"?\s*')
_LOOKED_AT = 64  # lines
_LONGEST_FIELD = 2**31 - 1  # what the csv module takes everywhere
_UNCLOSED = "unexpected end of data"


def read_delimited(path: Path, name: str, notes: Counter[str]) -> Iterator[Record]:
    """The rows as records of ``name``, each by the line it begins in; all values are text.

    A row with too many or too few columns has that as its problem.

    Raises:
        FixableError: The names of the columns cannot be used, a quoted text has no end, or the
            file is not in Unicode.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    lines = text_lines(path)
    head = list(islice(lines, _LOOKED_AT))
    skipped, separator = _separator(path, head)
    if separator != ",":
        called = _SEPARATORS.get(separator, repr(separator))
        notes[f"the columns of {name} are separated by {called}"] = 0
    counted = _Counted(chain(head[skipped:], lines), skipped)
    reader = csv.reader(counted, delimiter=separator, strict=True)
    rows = _numbered(path, reader, counted)
    columns = next((values for _, values, _ in rows if any(values)), [])
    _check_names(path, columns)
    for number, values, wrong in rows:
        uneven = f"it has {len(values)} columns, the line of their names {len(columns)}"
        problem = wrong or (uneven if len(values) != len(columns) else "")
        row = dict(zip(columns, values, strict=False))
        row.pop("", None)  # the numbers of rows, as pandas writes them
        yield Record(name, number, None if problem else row, problem, given=values)


class _Counted:
    """Lines, and the number of the last one."""

    def __init__(self, lines: Iterator[str], number: int) -> None:
        self._lines, self.number = lines, number

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        return line


def _numbered(path: Path, reader: Any, counted: _Counted) -> Iterator[tuple[int, list[str], str]]:
    """Every row that is not blank, the line it begins in, and what is wrong with it."""
    while True:
        number = counted.number + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if _UNCLOSED in str(error):
                raise FixableError(
                    f"{path}:{number} begins a text in quotes that nothing ends",
                    'end it, and write a quote within a text twice: "he said ""no"""',
                ) from None
            yield number, [], f"not valid CSV: {error}"
            continue
        if values:
            yield number, values, ""


def _separator(path: Path, head: list[str]) -> tuple[int, str]:
    """The number of lines before the names of the columns, and what separates these.

    Of several that could be, the one is taken by which all rows at the beginning are of one length.
    """
    if head and (said := _SAID_BY_EXCEL.fullmatch(head[0])):
        return 1, said[1]
    if plain_suffix(path) == ".tsv":
        return 0, "\t"
    lengths = {separator: _lengths(head, separator) for separator in _SEPARATORS}
    able = [separator for separator in lengths if lengths[separator][:1] > [1]]
    even = [separator for separator in able if len(set(lengths[separator])) == 1]
    return 0, (even or able or [","])[0]


def _lengths(head: list[str], separator: str) -> list[int]:
    """Numbers of columns of the first rows; the last one may be cut."""
    lengths = []
    try:
        for values in csv.reader(head, delimiter=separator):
            lengths += [len(values)] if values else []
    except csv.Error:
        pass
    return lengths[:-1] if len(head) == _LOOKED_AT and len(lengths) > 1 else lengths


def _check_names(path: Path, columns: list[str]) -> None:
    columns[:] = [name.strip() for name in columns]
    repeated = [name for name, count in Counter(columns).items() if count > 1 and name]
    if repeated:
        raise FixableError(
            f"two columns of {path} are named {repeated[0]}", "give each column a name of its own"
        )
