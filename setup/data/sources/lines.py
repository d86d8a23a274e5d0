"""Rows of a text file: one JSON object a line, or a JSON array, in any Unicode encoding.

Nothing is guessed: an encoding is known by its byte order mark, or by the zero bytes that only
UTF-16 and UTF-32 put beside the ASCII in which all JSON begins.
"""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from setup.common.errors import FixableError

from .records import Record

_BOM = codecs.BOM_UTF8
_HEAD = 1 << 16
_MARKS = (  # UTF-32 first: its mark begins as UTF-16's does
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NO_NUMBER = "NaN or Infinity, which JSON does not have, is null now"


def read_array(path: Path) -> list[Any] | None:
    """The rows of a file that is one JSON array, or objects over several lines each; else None.

    Such a file is read whole.

    Raises:
        FixableError: It begins as an array, and is none.
    """
    first = next(_raw_lines(path), b"")
    try:
        row = orjson.loads(first) if first else None
    except orjson.JSONDecodeError:
        if first.startswith(b"["):
            return _whole_array(path)
        return _objects(path) if first.endswith((b"{", b"[", b",")) else None
    if isinstance(row, list) and (path.suffix.lower() == ".json" or _is_only_line(path)):
        return _whole_array(path)
    return None


def read_lines(path: Path, name: str, notes: Counter[str]) -> Iterator[Record]:
    """The lines of a JSONL file; blank lines are skipped, a byte order mark is ignored."""
    for number, line in enumerate(_raw_lines(path), 1):
        if line:
            yield _decode(name, number, line, notes)


def count_lines(path: Path) -> int:
    """Count the rows that ``read_lines`` would yield."""
    return sum(1 for line in _raw_lines(path) if line)


def _raw_lines(path: Path) -> Iterator[bytes]:
    """The lines as UTF-8 without white space around them, whatever ends them in the file."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    encoding = _encoding(head)
    if encoding:
        with path.open(encoding=encoding) as text:
            try:
                for line in text:
                    yield line.lstrip("\ufeff").strip().encode("utf-8", "surrogatepass")
            except UnicodeError as error:
                raise FixableError(
                    f"{path} is not whole as {encoding.upper()} ({error})", "save it again as UTF-8"
                ) from None
    elif b"\r" in head and b"\n" not in head:
        # Latin-1 gives each byte back as it was; text files know the line ends of old Macs.
        with path.open(encoding="latin-1") as text:
            for line in text:
                yield line.encode("latin-1").removeprefix(_BOM).strip()
    else:
        with path.open("rb") as file:
            yield from (line.removeprefix(_BOM).strip() for line in file)


def _encoding(head: bytes) -> str:
    """The encoding of a file that is no UTF-8, "" of one that may be."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    zeros = [byte == 0 for byte in head[:4]]
    patterns = {
        "utf-32-be": [True, True, True, False],
        "utf-32-le": [False, True, True, True],
        "utf-16-be": [True, False, True, False],
        "utf-16-le": [False, True, False, True],
    }
    return next((name for name, pattern in patterns.items() if pattern == zeros), "")


def _is_only_line(path: Path) -> bool:
    lines = (line for line in _raw_lines(path) if line)
    next(lines, None)
    return next(lines, None) is None


def _whole_array(path: Path) -> list[Any]:
    text = path.read_bytes().removeprefix(_BOM)
    if _encoding(text[:_HEAD]):
        text = b"\n".join(_raw_lines(path))
    try:
        rows = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        rows = _with_nan(text)
        if rows is None:
            fix = "correct it, or write one row a line (.jsonl)"
            if "trailing comma" in str(error):
                fix = f"delete the last comma before line {error.lineno}, column {error.colno}"
            raise FixableError(f"{path} is not valid JSON ({error})", fix) from error
    return rows if isinstance(rows, list) else [rows]


def _objects(path: Path) -> list[Any] | None:
    """Objects one after another, as ``jq .`` writes them; None where the file is none of these."""
    text = b"\n".join(_raw_lines(path)).decode("utf-8", "replace")
    decoder, rows, place = json.JSONDecoder(parse_constant=_refuse), [], 0
    try:
        while place < len(text):
            row, place = decoder.raw_decode(text, place)
            rows.append(row)
            while place < len(text) and text[place].isspace():
                place += 1
    except ValueError:
        return None
    return None if "\ufffd" in text else rows


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _decode(name: str, number: int, line: bytes, notes: Counter[str]) -> Record:
    try:
        return Record(name, number, orjson.loads(line), line=line)
    except orjson.JSONDecodeError as error:
        row = _with_nan(line)
        if row is not None:
            notes[_NO_NUMBER] += 1
            return Record(name, number, row, line=line)
        reason = "not UTF-8" if _is_not_utf8(line) else f"not valid JSON: {error}"
        return Record(name, number, None, reason, line)


def _with_nan(line: bytes) -> Any:
    """Read ``line`` with NaN and Infinity as null; None where they are not what is wrong with it.

    pandas and json.dumps write them, though JSON has neither.
    """
    if b"NaN" not in line and b"Infinity" not in line:
        return None
    try:
        row = json.loads(line, parse_constant=lambda _: None)
        orjson.dumps(row)
    except (ValueError, TypeError, RecursionError):
        return None
    return row


def _is_not_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False
