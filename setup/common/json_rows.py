"""Rows of a text file: one JSON object a line, or a JSON array, in any Unicode encoding.

Nothing is guessed: an encoding is known by its byte order mark, or by the zero bytes that only
UTF-16 and UTF-32 put beside the ASCII in which all JSON begins.
"""

from __future__ import annotations

import codecs
import io
import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import orjson

from setup.common.errors import FixableError
from setup.common.unpack import PACKINGS, open_unpacked, plain_suffix

ARRAY, LINES, OBJECTS = "one JSON array", "JSON lines", "JSON objects over several lines"

_HEAD = 1 << 16
_UTF8 = "utf-8"
_MARKS = (
    (codecs.BOM_UTF8, _UTF8),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is the beginning of this one
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ZEROS = {  # which of the first four bytes are zero
    b"\1\1\1\0": "utf-32be",
    b"\0\1\1\1": "utf-32le",
    b"\1\0\1\0": "utf-16be",
    b"\0\1\0\1": "utf-16le",
}
_LONE_CR = re.compile(rb"\r[^\r\n]")
_SPACE = re.compile(r"\s*")
NOT_UTF8, _SAVE_AS_UTF8 = "not UTF-8", "save the file as UTF-8"
_LAST_COMMA = re.compile(r",\s*[\]}]")
_READABLE = "one JSON object a line, a JSON array of objects, or a table named .csv or .tsv"


@dataclass(frozen=True)
class TextForm:
    """The encoding of a text file, and if it has a byte order mark, and lines that end in CR."""

    encoding: str
    is_marked: bool
    has_lone_cr: bool


def text_form(path: Path) -> TextForm:
    """The form of a file, as its beginning shows it; an unknown encoding counts as UTF-8."""
    with open_unpacked(path) as file:
        head = file.read(_HEAD)
    has_lone_cr = bool(_LONE_CR.search(head))
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return TextForm(encoding, True, has_lone_cr)
    zeros = bytes(byte == 0 for byte in head[:4])
    return TextForm(_ZEROS.get(zeros, _UTF8), False, has_lone_cr)


def raw_lines(path: Path) -> Iterator[bytes]:
    """The lines as UTF-8 without white space around them, whatever ends them in the file.

    Raises:
        FixableError: The file breaks off within a character of UTF-16 or UTF-32.
    """
    form = text_form(path)
    if form.encoding == _UTF8 and not form.has_lone_cr:
        with open_unpacked(path) as file:
            yield from (line.removeprefix(codecs.BOM_UTF8).strip() for line in file)
        return
    # Latin-1 gives each byte back as it was; text files know the line ends of old Macs.
    codec, back = ("latin-1", "latin-1") if form.encoding == _UTF8 else (form.encoding, _UTF8)
    with io.TextIOWrapper(open_unpacked(path), codec) as text:
        number = 0
        try:
            for line in text:
                number += 1
                yield line.encode(back).removeprefix(codecs.BOM_UTF8).strip()
        except UnicodeError as error:
            raise _not_whole(path, number, codec, error) from None


def text_lines(path: Path) -> Iterator[str]:
    """The lines with what ends them, which may be any of the three ways; no byte order mark.

    Raises:
        FixableError: A line is in no Unicode encoding, or the file breaks off within a character.
    """
    form = text_form(path)
    codec = "latin-1" if form.encoding == _UTF8 else form.encoding
    with io.TextIOWrapper(open_unpacked(path), codec, newline="") as text:
        number = 0
        try:
            for number, line in enumerate(text, 1):
                plain = _decoded(path, number, line) if codec == "latin-1" else line
                yield plain.removeprefix("\ufeff") if number == 1 else plain
        except UnicodeError as error:
            raise _not_whole(path, number, codec, error) from None


def _decoded(path: Path, number: int, line: str) -> str:
    raw = line.encode("latin-1")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise FixableError(
            f"{path}:{number} is {_not_utf8(error)}", recoding_fix(str(path))
        ) from None


def recoding_fix(source: str) -> str:
    """The command that writes a file of Western Windows anew, and the option that names it."""
    path = Path(source)
    new = shlex.quote(str(path.with_name(f"{path.stem}-utf8{path.suffix}")))
    if path.suffix.lower() in PACKINGS:
        return f"{_SAVE_AS_UTF8}, and pack it again"
    command = f"iconv -f WINDOWS-1252 -t UTF-8 {shlex.quote(source)} > {new}"
    return f"save it as UTF-8, for example {command}, then --set data.source={new}"


def _not_whole(path: Path, line: int, codec: str, error: UnicodeError) -> FixableError:
    what = f"{path} is not whole as {codec.upper()} after line {line} ({error})"
    return FixableError(what, _SAVE_AS_UTF8)


def read_whole(path: Path, parse: Callable[[bytes], Any]) -> tuple[list[Any], str] | None:
    """The rows of a file that is ``ARRAY`` or ``OBJECTS``, and which; None where it is lines.

    Such a file is read whole.

    Raises:
        FixableError: It begins as an array, and is none.
    """
    first = next(filter(None, raw_lines(path)), b"")
    try:
        row = orjson.loads(first) if first else None
    except orjson.JSONDecodeError:
        if first.startswith(b"["):
            return _read_array(path, parse), ARRAY
        rows = _read_objects(path) if first.endswith((b"{", b"[", b",")) else None
        return None if rows is None else (rows, OBJECTS)
    if isinstance(row, list) and (plain_suffix(path) == ".json" or _is_only_line(path)):
        return _read_array(path, parse), ARRAY
    return None


def read_objects(path: Path) -> tuple[list[tuple[str, dict[str, Any]]], str]:
    """Every object of a JSON file behind the place where it stands, and the kind of the file.

    Numbers keep all their digits, which orjson would round.

    Raises:
        FixableError: Naming the first place that is no JSON object.
    """
    whole, rows = read_whole(path, _parse_exactly), []
    if whole:
        place = "entry {} of the array in {}" if whole[1] == ARRAY else "object {} in {}"
        rows = [(place.format(number, path), row) for number, row in enumerate(whole[0], 1)]
    else:
        for number, line in enumerate(raw_lines(path), 1):
            where = f"{path}:{number}"
            try:
                rows += [(where, _parse_exactly(line))] if line else []
            except ValueError as error:
                problem = json_problem(line, error)
                raise FixableError(f"{where} is {problem}", _fix_of(problem, _READABLE)) from None
    for where, row in rows:
        if not isinstance(row, dict):
            raise FixableError(f"{where} is not a JSON object", _READABLE)
    return rows, whole[1] if whole else LINES


def read_utf8(path: Path) -> str:
    """The text of a file that may be nothing but UTF-8, with or without a byte order mark.

    Raises:
        FixableError: It is in another encoding.
    """
    encoding = text_form(path).encoding.upper()
    if encoding != _UTF8.upper():
        old, new = shlex.quote(str(path)), shlex.quote(f"utf8-{path.name}")
        raise FixableError(f"{path} is {encoding}", f"iconv -f {encoding} -t UTF-8 {old} > {new}")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"byte {error.start} of {path} is not UTF-8"
        raise FixableError(what, _SAVE_AS_UTF8) from None


def json_problem(text: bytes, error: ValueError) -> str:
    """The reason for which ``text`` cannot be parsed, as the end of a sentence."""
    try:
        text.decode()
    except UnicodeDecodeError as wrong:
        return _not_utf8(wrong)
    return f"not valid JSON: {error}"


def _not_utf8(error: UnicodeDecodeError) -> str:
    """Name the first byte that is not, and its place in its line."""
    line_begins = error.object.rfind(b"\n", 0, error.start) + 1
    byte, place = error.object[error.start], error.start - line_begins + 1
    return f"{NOT_UTF8} (byte {place} of the line is 0x{byte:02X})"


def _fix_of(problem: str, json_fix: str) -> str:
    return _SAVE_AS_UTF8 if problem.startswith(NOT_UTF8) else json_fix


def _parse_exactly(text: bytes) -> Any:
    try:
        return json.loads(text.decode())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _is_only_line(path: Path) -> bool:
    lines = filter(None, raw_lines(path))
    next(lines, None)
    return next(lines, None) is None


def _read_array(path: Path, parse: Callable[[bytes], Any]) -> list[Any]:
    with open_unpacked(path) as file:
        text = file.read().removeprefix(codecs.BOM_UTF8)
    if text_form(path).encoding != _UTF8:
        text = b"\n".join(raw_lines(path))
    try:
        rows: list[Any] = parse(text)
    except ValueError as error:
        problem = json_problem(text, error)
        where, fix = str(path), _fix_of(problem, "correct it, or write one row a line (.jsonl)")
        if problem.startswith(NOT_UTF8):
            where = f"{path}:{_line_that_is_not_utf8(text)}"
        elif isinstance(error, json.JSONDecodeError):
            where = f"{path}:{error.lineno}"
            comma = error.doc.rfind(",", 0, error.pos + 1)
            if comma >= 0 and _LAST_COMMA.match(error.doc, comma):
                line, column = error.doc.count("\n", 0, comma), error.doc.rfind("\n", 0, comma)
                fix = f"delete the last comma, in line {line + 1}, column {comma - column}"
        raise FixableError(f"{where} is {problem}", fix) from None
    return rows


def _line_that_is_not_utf8(text: bytes) -> int:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return text.count(b"\n", 0, error.start) + 1
    return 1


def _read_objects(path: Path) -> list[Any] | None:
    """Objects one after another, as ``jq .`` writes them; None where the file is none of these."""
    decoder, rows, place = json.JSONDecoder(parse_constant=_refuse), [], 0
    try:
        text = b"\n".join(raw_lines(path)).decode()
        while (place := _SPACE.match(text, place).end()) < len(text):  # type: ignore[union-attr]
            row, place = decoder.raw_decode(text, place)
            rows.append(row)
    except (ValueError, RecursionError):
        return None
    return rows


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
