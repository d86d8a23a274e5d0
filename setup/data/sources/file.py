"""Rows of a file of the user's own, as they were read; a fault is that of its row alone."""

from __future__ import annotations

import glob
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from setup.common.errors import FixableError
from setup.common.files import fixable_read
from setup.common.json_rows import json_problem, raw_lines, read_whole
from setup.common.unpack import plain_suffix
from setup.data.formats.origin import PLAIN_SUFFIXES
from setup.data.formats.source import Record, Source

from .delimited import read_delimited
from .tables import BATCH_ROWS, open_arrow, open_parquet

_NO_NUMBER = "NaN or Infinity, which JSON does not have, is null now"
_TWO_VALUES = "a key stands twice in one object, and its last value is taken"
# Packed in ways that are not read: what unpacks them.
_UNPACK = {".bz2": "bunzip2 -k", ".xz": "unxz -k"}
_SPACE, _WHITE = re.compile(r"\s*"), b" \t\r\n"


def numbered(name: str, batches: Iterable[list[Any]]) -> Iterator[list[Record]]:
    """The rows as records of ``name``, counted from 1.

    Raises:
        FixableError: The disk or the network refuses to go on.
    """
    number = 0
    with fixable_read(name):
        for rows in batches:
            yield [Record(name, number + place, row) for place, row in enumerate(rows, 1)]
            number += len(rows)


def open_file(path: Path, name: str = "") -> Source:
    """A local file of one of FILE_SUFFIXES; ``name`` is what its records call it.

    Raises:
        FixableError: There is no such file, or it cannot be read at all.
    """
    _refuse_unreadable(path)
    name = name or path.name
    suffix, notes = plain_suffix(path), Counter[str]()
    if suffix in (".parquet", ".arrow"):
        total, batches = (open_parquet if suffix == ".parquet" else open_arrow)(path)
        return Source(numbered(name, batches), total)
    if suffix in (".csv", ".tsv"):
        return Source(_read_delimited(path, name, notes), notes=notes)
    whole = read_whole(path, partial(_parse, notes=notes, rows=0))
    if whole is None:
        return Source(_read_lines(path, name, notes), notes=notes)
    rows = whole[0]
    _note_two_values(b"\n".join(raw_lines(path)), rows, notes, 0)
    return Source(numbered(name, _chunks(rows)), len(rows), notes=notes)


def _refuse_unreadable(path: Path) -> None:
    suffix, quoted = path.suffix.lower(), shlex.quote(str(path))
    if not path.exists() and glob.has_magic(str(path)):
        what, fix = f"no file matches {path}", "correct the pattern"
    elif not path.exists():
        what, fix = f"there is no data file {path}", "give the path of a file, or a dataset id"
    elif path.is_dir():
        what, fix = f"{path} is a folder, not a file", "give the path of a file"
    elif not path.is_file():
        what = f"{path} is a pipe or a device, and is read more than once"
        fix = "write it to a file first, and give its path"
    elif suffix in _UNPACK:
        what = f"{path} is packed ({suffix}), and is not read so"
        unpacked = shlex.quote(str(path.with_suffix("")))
        fix = f"{_UNPACK[suffix]} {quoted}, then --set data.source={unpacked}"
    elif plain_suffix(path) not in PLAIN_SUFFIXES:
        kinds = ", ".join(PLAIN_SUFFIXES)
        what, fix = (
            f"{path} is of no kind that can be read",
            f"write {kinds}, each also .gz or .zst",
        )
    else:
        try:
            path.open("rb").close()
            return
        except OSError as error:
            what, fix = f"cannot read {path}: {error.strerror}", f"chmod u+r {quoted}"
    raise FixableError(what, fix)


def _read_delimited(path: Path, name: str, notes: Counter[str]) -> Iterator[list[Record]]:
    with fixable_read(name):
        yield from _chunks(read_delimited(path, name, notes))


def _read_lines(path: Path, name: str, notes: Counter[str]) -> Iterator[list[Record]]:
    """The lines of a JSONL file; blank lines are skipped, a byte order mark is ignored."""
    with fixable_read(name):
        numbers = enumerate(raw_lines(path), 1)
        yield from _chunks(
            _read_line(name, number, line, notes) for number, line in numbers if line
        )


def _read_line(name: str, number: int, line: bytes, notes: Counter[str]) -> Record:
    try:
        row = _parse(line, notes, rows=1)
    except orjson.JSONDecodeError as error:
        return Record(name, number, None, json_problem(line, error), line)
    _note_two_values(line, row, notes, 1)
    return Record(name, number, row, "", line)


def _chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    remaining = iter(items)
    while chunk := list(islice(remaining, BATCH_ROWS)):
        yield chunk


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


def _note_two_values(text: bytes, value: Any, notes: Counter[str], rows: int) -> None:
    """Note that an object in ``text``, which was read as ``value``, gives a key twice.

    The keys are counted first: to see each pair takes five times as long as to read the text.
    """
    dense = text.translate(None, _WHITE)
    written = dense.count(b'":') - dense.count(b'\\":')
    repeated = []

    def see(pairs: list[tuple[str, Any]]) -> None:
        repeated.append(len({name for name, _ in pairs}) < len(pairs))

    try:
        if written == _count_keys([value]) and b'\\\\"' not in text:
            return
        decoder, place, whole = json.JSONDecoder(object_pairs_hook=see), 0, text.decode()
        while (place := _SPACE.match(whole, place).end()) < len(whole):  # type: ignore[union-attr]
            _, place = decoder.raw_decode(whole, place)
    except RecursionError:
        return
    if any(repeated):
        notes[_TWO_VALUES] += rows


def _count_keys(value: Any) -> int:
    inner = list(value.values()) if isinstance(value, dict) else value
    keys = len(value) if isinstance(value, dict) else 0
    return keys + sum(_count_keys(item) for item in inner if isinstance(item, dict | list))
