"""Rows of a JSON file as records: what cannot be read is a problem of its line alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from setup.common.json_rows import json_problem, raw_lines, read_whole

from .records import Record

_NO_NUMBER = "NaN or Infinity, which JSON does not have, is null now"


def read_array(path: Path, notes: Counter[str]) -> list[Any] | None:
    """The rows of a file that is one array, or objects over several lines each; else None."""
    whole = read_whole(path, partial(_parse, notes=notes, rows=0))
    return whole and whole[0]


def read_lines(path: Path, name: str, notes: Counter[str]) -> Iterator[Record]:
    """The lines of a JSONL file; blank lines are skipped, a byte order mark is ignored."""
    for number, line in enumerate(raw_lines(path), 1):
        if not line:
            continue
        row, problem = None, ""
        try:
            row = _parse(line, notes, rows=1)
        except orjson.JSONDecodeError as error:
            problem = json_problem(line, error)
        yield Record(name, number, row, problem, line)


def _parse(text: bytes, notes: Counter[str], rows: int) -> Any:
    """The value of JSON, of which NaN and Infinity become null, which is noted of ``rows`` rows.

    pandas and json.dumps write them, though JSON has neither.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        if b"NaN" not in text and b"Infinity" not in text:
            raise
        try:
            row = json.loads(text, parse_constant=lambda _: None)
            orjson.dumps(row)
        except (ValueError, TypeError, RecursionError):
            row = None
        if row is None:
            raise
        notes[_NO_NUMBER] += rows
        return row
