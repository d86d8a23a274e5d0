"""Rows of tables, which Arrow holds: Parquet and Arrow files, and data sets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import orjson

from setup.common.errors import FixableError
from setup.common.unpack import unpacked_copy

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

BATCH_ROWS = 200
_EVEN = 2  # fields of a turn that is nothing but role and content

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
        source = unpacked_copy(path)
        file = parquet.ParquetFile(source, pre_buffer=False, buffer_size=1 << 20)
    except pa.ArrowInvalid as error:
        raise FixableError(f"{path} is not a Parquet file ({error})", "write it again") from error
    return file.metadata.num_rows, _rows_of(file.iter_batches(BATCH_ROWS, use_threads=False))


def open_arrow(path: Path) -> tuple[None, Iterator[list[Any]]]:
    """The rows of an Arrow file, or of a stream as `datasets` writes them, in batches.

    Raises:
        FixableError: It is neither.
    """
    import pyarrow as pa

    source = unpacked_copy(path)
    try:
        batches = _batches_of_file(pa.ipc.open_file(source))
    except pa.ArrowInvalid:
        try:
            batches = iter(pa.ipc.open_stream(_from_start(source)))
        except pa.ArrowException as error:
            raise FixableError(f"{path} is not an Arrow file ({error})", "write it again") from None
    return None, _rows_of(part for batch in batches for part in _small(batch))


def _from_start(source: Path | IO[bytes]) -> Any:
    if isinstance(source, Path):
        return source.open("rb")
    source.seek(0)
    return source


def _batches_of_file(file: Any) -> Iterator[pa.RecordBatch]:
    return (file.get_batch(number) for number in range(file.num_record_batches))


def _small(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    return (batch.slice(begin, BATCH_ROWS) for begin in range(0, batch.num_rows, BATCH_ROWS))


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
                if _is_uneven(field.type):
                    for row in rows:
                        row[field.name] = _without_nulls(row[field.name])
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


def _is_uneven(kind: pa.DataType) -> bool:
    """Tell whether Arrow may have given the objects of a column fields that their file had not."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        fields = [kind.field(number) for number in range(kind.num_fields)]
        return len(fields) > _EVEN or any(_is_uneven(field.type) for field in fields)
    value = getattr(kind, "value_type", None)
    return value is not None and not pa.types.is_dictionary(kind) and _is_uneven(value)


def _without_nulls(value: Any) -> Any:
    """Objects without fields that are null: Arrow gives each all fields that any other has.

    A model would be taught arguments and options that nobody gave.
    """
    if isinstance(value, dict):
        return {
            name: _without_nulls(inner)
            for name, inner in value.items()
            if inner is not None or name == "content"
        }
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _decode_text(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)  # NaN
