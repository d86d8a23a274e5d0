"""Rows of tables, which Arrow holds: Parquet files and data sets; messages as they keep them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from setup.common.errors import FixableError

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

BATCH_ROWS = 200

Decode = Callable[[Any], Any]


def open_parquet(path: Path) -> tuple[int, Iterator[list[Any]]]:
    """The number of rows of a Parquet file, and the rows in batches.

    Raises:
        FixableError: It is none.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        # A buffer, else a whole row group is read at once, and that may be the whole file.
        file = parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
    except pa.ArrowInvalid as error:
        raise FixableError(f"{path} is not a Parquet file ({error})", "write it again") from error
    return file.metadata.num_rows, _rows_of(file.iter_batches(BATCH_ROWS, use_threads=False))


def iterate_dataset(dataset: Dataset) -> Iterator[list[Any]]:
    """The rows of a dataset, selections and shuffles respected, in batches."""
    return _rows_of(dataset.with_format("arrow").iter(batch_size=BATCH_ROWS))


def _rows_of(tables: Iterable[pa.Table | pa.RecordBatch]) -> Iterator[list[Any]]:
    """The rows of Arrow tables, JSON that they keep as text decoded wherever it is nested.

    A column of values of different types is kept so (`datasets.Json`), and read as it is every text
    in it would be a text in quotes.
    """
    import pyarrow as pa

    try:
        for table in tables:
            rows: list[Any] = table.to_pylist()
            for field in table.schema:
                if decode := _decoder(field.type):
                    for row in rows:
                        row[field.name] = decode(row[field.name])
            yield rows
    except pa.ArrowException as error:
        raise OSError(0, str(error)) from error


def _decoder(kind: pa.DataType) -> Decode | None:
    """Return a function that decodes the JSON text in an Arrow type's values; None without any."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        return _decode_text if kind.extension_name == "arrow.json" else _decoder(kind.storage_type)
    if pa.types.is_struct(kind):
        decoders = {field.name: decode for field in kind if (decode := _decoder(field.type))}
        if not decoders:
            return None
        return lambda row: row and row | {name: decoders[name](row[name]) for name in decoders}
    item = getattr(kind, "item_type", None) if pa.types.is_map(kind) else None
    value = getattr(kind, "value_type", None) if item is None else None
    inner = _decoder(item or value) if item or value else None
    if inner is None or pa.types.is_dictionary(kind):
        return inner
    if item:
        return lambda pairs: pairs and [(key, inner(value)) for key, value in pairs]
    return lambda values: values and [inner(value) for value in values]


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
            turns_of_fields = zip(*lists.values(), strict=True)
            row["messages"] = [dict(zip(lists, turn, strict=True)) for turn in turns_of_fields]


def _parsed(text: Any) -> Any:
    if not isinstance(text, str) or text.lstrip()[:1] not in {"[", "{"}:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
