"""The source of rows: a file of the user's own, or a data set (folder.py, hub.py)."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setup.common.errors import FixableError
from setup.data.convert import BATCH_ROWS, rows_of
from setup.data.plan import FILE_SUFFIXES

from .lines import read_array, read_lines
from .records import Record, Source, chunks, numbered, readable

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

__all__ = ["Record", "Source", "open_file"]

_PACKED = {".gz": "gunzip -k", ".bz2": "bunzip2 -k", ".xz": "unxz -k", ".zst": "unzstd"}
_ROW = '{"messages": [{"role": "user", "content": …}, {"role": "assistant", "content": …}]}'


def open_file(path: Path, name: str = "") -> Source:
    """A local .jsonl, .json or .parquet file; ``name`` is what its records call it.

    Raises:
        FixableError: there is no such file, or its Parquet or JSON cannot be read at all.
    """
    _refuse_unreadable(path)
    name = name or path.name
    if path.suffix.lower() == ".parquet":
        return _open_parquet(path, name)
    notes: Counter[str] = Counter()
    rows = read_array(path, notes)
    if rows is not None:
        return Source(numbered(name, chunks(rows)), len(rows), notes=notes)
    return Source(readable(name, chunks(read_lines(path, name, notes))), notes=notes)


def _refuse_unreadable(path: Path) -> None:
    if not path.exists():
        raise FixableError(
            f"there is no data file {path}", fix="give the path of a file, or a dataset id"
        )
    if path.is_dir():
        raise FixableError(f"{path} is a folder, not a file", fix="give the path of a file")
    if not path.is_file():
        raise FixableError(
            f"{path} is a pipe or a device, and is read more than once",
            fix="write it to a file first, and give its path",
        )
    suffix = path.suffix.lower()
    if suffix in _PACKED:
        unpacked = shlex.quote(str(path.with_suffix("")))
        raise FixableError(
            f"{path} is packed ({suffix}), and is not read so",
            fix=f"{_PACKED[suffix]} {shlex.quote(str(path))}, then --set data.source={unpacked}",
        )
    if suffix in {".csv", ".tsv"}:
        raise FixableError(
            f"{path} is {suffix[1:].upper()}, of no kind that can be read yet",
            fix=f"write .jsonl instead, each row as {_ROW}",
        )
    if suffix not in FILE_SUFFIXES:
        raise FixableError(
            f"{path} is of no kind that can be read", fix=f"write {', '.join(FILE_SUFFIXES)}"
        )
    try:
        path.open("rb").close()
    except OSError as error:
        raise FixableError(
            f"cannot read {path}: {error.strerror}", fix=f"chmod u+r {shlex.quote(str(path))}"
        ) from None


def _open_parquet(path: Path, name: str) -> Source:
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    try:
        # A buffer, else a whole row group is read at once, and that may be the whole file.
        file = parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
    except pa.ArrowInvalid as error:
        raise FixableError(
            f"{path} is not a Parquet file ({error})", fix="write it again"
        ) from error
    return Source(readable(name, numbered(name, _parquet_rows(file))), file.metadata.num_rows)


def _parquet_rows(file: ParquetFile) -> Iterator[list[Any]]:
    import pyarrow as pa  # noqa: PLC0415

    try:
        for batch in file.iter_batches(BATCH_ROWS, use_threads=False):
            yield rows_of(batch)
    except pa.ArrowException as error:
        raise OSError(0, str(error)) from error
