"""The lines of a batch run as its file has them, which promptflow alone would not read.

promptflow reads JSON through pandas: a byte order mark ends the run without a word of it, a column
called ``date`` becomes a point in time, a missing one the text "nan".
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from setup.common.errors import FixableError

Row = dict[str, Any]
Line = tuple[str, Row]
"""Where a row stands in its file, for messages, and the row."""

TABLES = (".csv", ".tsv", ".parquet")  # promptflow reads these as they are
_LONE_CR = re.compile(r"\r(?!\n)")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as that of UTF-16 does, so it is looked for first
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@contextmanager
def read_exactly() -> Iterator[None]:
    """Let promptflow take the values of JSON lines as they are while the block runs."""
    from promptflow.batch import _batch_inputs_processor as reader  # noqa: PLC0415 - two seconds

    by_pandas = reader.load_data

    def load_data(local_path: Path, **options: Any) -> list[Row]:
        if Path(local_path).suffix.lower() in TABLES:
            return list(by_pandas(local_path=local_path, **options))
        return [row for _, row in read_lines(Path(local_path))[0]]

    reader.load_data = load_data
    try:
        yield
    finally:
        reader.load_data = by_pandas


def read_lines(path: Path) -> tuple[list[Line], str]:
    """The rows of a JSON file, and what it is where promptflow could not read it; else "".

    Raises:
        FixableError: Naming the line that is no JSON object.
    """
    content = path.read_bytes()
    mark, encoding = next((m for m in _MARKS if content.startswith(m[0])), (b"", "utf-8"))
    try:
        text = content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        what = f"byte {error.start} of {path} is not {encoding.upper()}"
        raise FixableError(what, "save the file as UTF-8") from None
    array, json_file = text.lstrip().startswith("["), path.suffix.lower() == ".json"
    oddities = (
        (bool(mark), f"{encoding.upper()} with a byte order mark"),
        (array and not json_file, "one JSON array"),
        (json_file and not array, "JSON lines"),
        (not array and _LONE_CR.search(text), "in lines that end in CR"),
    )
    if json_file and not array and _is_object(text):
        fix = "put it between [ and ], or call the file .jsonl"
        raise FixableError(f"{path} is one JSON object, not an array of them", fix)
    rows = list((_array if array else _lines)(text, path))
    return rows, next((told for holds, told in oddities if holds), "")


def _is_object(text: str) -> bool:
    """Whether the whole file is one object: pandas takes it for columns, others for one row."""
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _array(text: str, path: Path) -> Iterator[Line]:
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise FixableError(f"{path} is not JSON: {error}", "one JSON object a line") from None
    for number, row in enumerate(rows, start=1):
        where = f"entry {number} of the array in {path}"
        if not isinstance(row, dict):
            raise FixableError(f"{where} is no JSON object", "one JSON object a line")
        yield where, row


def _lines(text: str, path: Path) -> Iterator[Line]:
    # Not splitlines: U+2028 and the like may stand in a JSON string.
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            what = f"{path}:{number} is not JSON: {error}"
            raise FixableError(what, "one JSON object a line") from None
        if not isinstance(row, dict):
            raise FixableError(f"{path}:{number} is no JSON object", "one JSON object a line")
        yield f"{path}:{number}", row
