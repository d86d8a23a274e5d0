"""Rows of a dataset to lines of JSON, in batches: fast, and at the same memory for any length.

Reading a `datasets.Dataset` row by row decodes one row at a time, and `json.dump` to a file encodes
piece by piece in Python. Here a batch of rows leaves Arrow at once and each row is encoded whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from setup.common.errors import FixableError
from setup.common.files import replace_together

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

BATCH_ROWS = 500

Row = dict[str, Any]
Decode = Callable[[Any], Any]


def encode_row(row: Any) -> bytes:
    """The row as one line of UTF-8 JSON, line feed included; decimals become numbers.

    Raises:
        FixableError: a value has no form in JSON, such as the bytes of an image.
    """
    try:
        return orjson.dumps(row, _encode_value, orjson.OPT_APPEND_NEWLINE)
    except TypeError as error:
        where = f"column {_culprit(row)} of a row" if isinstance(row, dict) else "a row"
        raise FixableError(
            f"{where} cannot be written as JSON ({error})", fix="remove the column that holds it"
        ) from error


def _encode_value(value: Any) -> Any:
    """A decimal as the number of the same digits; as text where no number has them."""
    if not isinstance(value, Decimal):
        raise TypeError(f"type {type(value).__name__}")
    if value == value.to_integral_value() and abs(value) < 2**53:
        return int(value)
    number = float(value)
    return number if Decimal(repr(number)) == value else str(value)


def _culprit(row: Row) -> str:
    for name, value in row.items():
        try:
            orjson.dumps(value, _encode_value)
        except TypeError:
            return str(name)
    return "?"


def iterate_dataset(dataset: Dataset, batch_rows: int = BATCH_ROWS) -> Iterator[list[Row]]:
    """The rows of a dataset, selections and shuffles respected, in lists of `batch_rows`."""
    for table in dataset.with_format("arrow").iter(batch_size=batch_rows):
        yield rows_of(table)


def rows_of(table: pa.Table | pa.RecordBatch) -> list[Row]:
    """The rows of an Arrow table, JSON that it keeps as text decoded wherever it is nested.

    A column of values of different types is kept so (`datasets.Json`), and read as it is every text
    in it would be a text in quotes.
    """
    rows: list[Row] = table.to_pylist()
    decoders = {field.name: decode for field in table.schema if (decode := _decoder(field.type))}
    for name, decode in decoders.items():
        for row in rows:
            row[name] = decode(row[name])
    return rows


def _decoder(kind: pa.DataType) -> Decode | None:
    """Return a function that decodes the JSON text in an Arrow type's values; None without any."""
    import pyarrow as pa  # noqa: PLC0415 - the package must import quickly

    if isinstance(kind, pa.BaseExtensionType):
        is_json = kind.extension_name == "arrow.json"
        return _decode_text if is_json else _decoder(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _decoder(kind.value_type)
    if pa.types.is_struct(kind):
        fields = [kind.field(place) for place in range(kind.num_fields)]
        return _decode_fields({f.name: d for f in fields if (d := _decoder(f.type))})
    if pa.types.is_map(kind):
        item = _decoder(kind.item_type)
        return item and (lambda pairs: pairs and [(key, item(value)) for key, value in pairs])
    if hasattr(kind, "value_type"):
        inner = _decoder(kind.value_type)
        return inner and (lambda values: values and [inner(value) for value in values])
    return None


def _decode_fields(decoders: dict[str, Decode]) -> Decode | None:
    def decode(value: Row | None) -> Row | None:
        return value and value | {name: decoders[name](value[name]) for name in decoders}

    return decode if decoders else None


def _decode_text(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)  # NaN


def unpack_messages(row: Any) -> None:
    """Turn messages that are kept as JSON text, or as a list a field, into a list of turns.

    So do tables keep them: a text column, Arrow's list of structs as pandas or `datasets` write it.
    """
    messages = row.get("messages") if isinstance(row, dict) else None
    if isinstance(messages, list):
        if messages and isinstance(messages[0], str):
            turns = [_parsed(turn) for turn in messages]
            if all(isinstance(turn, dict) for turn in turns):
                row["messages"] = turns
        return
    if isinstance(messages, str):
        messages = _parsed(messages)
        if isinstance(messages, list):
            row["messages"] = messages
    if isinstance(messages, dict):
        lists = {name: values for name, values in messages.items() if isinstance(values, list)}
        lengths = {len(values) for values in lists.values()}
        if {"role", "content"} <= set(lists) and len(lengths) == 1:
            row["messages"] = [
                {name: values[place] for name, values in lists.items()}
                for place in range(lengths.pop())
            ]


def _parsed(text: Any) -> Any:
    if not isinstance(text, str) or text.lstrip()[:1] not in {"[", "{"}:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def convert_dataset(dataset: Dataset, path: Path, batch_rows: int = BATCH_ROWS) -> int:
    """Writes every row of a dataset to a JSONL file, which appears only when complete.

    Returns:
        The number of rows.
    """
    rows = 0
    with replace_together(path) as (file,):
        for batch in iterate_dataset(dataset, batch_rows):
            file.write(b"".join(map(encode_row, batch)))
            rows += len(batch)
    return rows
