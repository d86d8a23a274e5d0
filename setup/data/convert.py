"""Rows of a dataset to lines of JSON, in batches: fast, and at the same memory for any length.

Reading a `datasets.Dataset` row by row decodes one row at a time, and `json.dump` to a file encodes
piece by piece in Python. Here a batch of rows leaves Arrow at once and each row is encoded whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from setup.errors import FixableError

from .files import replace_together

if TYPE_CHECKING:
    from datasets import Dataset

BATCH_ROWS = 500

Row = dict[str, Any]


def encode_row(row: Any) -> bytes:
    """The row as one line of UTF-8 JSON, line feed included.

    Raises:
        FixableError: a value has no form in JSON, such as the bytes of an image.
    """
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError as error:
        raise FixableError(
            f"a row cannot be written as JSON ({error})", fix="remove the column that holds it"
        ) from error


def iterate_dataset(dataset: Dataset, batch_rows: int = BATCH_ROWS) -> Iterator[list[Row]]:
    """The rows of a dataset, selections and shuffles respected, in lists of `batch_rows`."""
    for table in dataset.with_format("arrow").iter(batch_size=batch_rows):
        yield table.to_pylist()


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
