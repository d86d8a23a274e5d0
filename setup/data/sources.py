"""Where rows come from: a file of the user's own, or a dataset of the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from setup.errors import FixableError

from .convert import BATCH_ROWS, iterate_dataset
from .plan import FILE_SUFFIXES

if TYPE_CHECKING:
    from datasets import Dataset

_BOM = b"\xef\xbb\xbf"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_REVISION = re.compile(r"@([0-9a-f]{40})")


@dataclass(slots=True)
class Record:
    """A row as it was read.

    Attributes:
        file: The file or the dataset.
        number: The line of a .jsonl file, else the row; from 1.
        row: The decoded row, None when it cannot be decoded.
        problem: Why it cannot.
        line: The original bytes, where there is a line.
    """

    file: str
    number: int
    row: Any
    problem: str = ""
    line: bytes | None = None


@dataclass(frozen=True)
class Source:
    """Records to come, in batches.

    Attributes:
        batches: The records.
        total: How many there are, None when only reading tells.
        revision: The commit of a hub dataset, "" where there is none.
    """

    batches: Iterable[list[Record]]
    total: int | None = None
    revision: str = ""


def open_file(path: Path) -> Source:
    """A local .jsonl, .json or .parquet file.

    Raises:
        FixableError: there is no such file, or its Parquet or JSON cannot be read at all.
    """
    if not path.is_file():
        raise FixableError(
            f"there is no data file {path}", fix="give the path of a file, or a dataset id"
        )
    if path.suffix.lower() not in FILE_SUFFIXES:
        raise FixableError(
            f"{path} is of no kind that can be read", fix=f"write {', '.join(FILE_SUFFIXES)}"
        )
    if path.suffix.lower() == ".parquet":
        return _open_parquet(path)
    if path.suffix.lower() == ".json" and _first_byte(path) == b"[":
        return _open_array(path)
    return Source(_chunks(read_lines(path)))


def read_lines(path: Path) -> Iterator[Record]:
    """The lines of a JSONL file; blank lines are skipped, a byte order mark is ignored."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            line = (raw.removeprefix(_BOM) if number == 1 else raw).strip()
            if line:
                yield _decode(path.name, number, line)


def open_hub(name: str, config: str | None, split: str) -> Source:
    """A dataset of the hub, or of a folder laid out like one; downloads what is not cached.

    Raises:
        FixableError: no network, or no such dataset, configuration or slice.
    """
    dataset = _load(name, config, split)
    urls = " ".join(dataset.info.download_checksums or {})
    found = _REVISION.search(urls)
    return Source(
        _number(name, iterate_dataset(dataset)), len(dataset), found.group(1) if found else ""
    )


def _load(name: str, config: str | None, split: str) -> Dataset:
    # Asked here first: the name of a private file is nobody else's business.
    if not Path(name).is_dir() and not _HUB_ID.fullmatch(name):
        raise _no_dataset(name, "no such file or folder, and no OWNER/NAME")
    import datasets  # noqa: PLC0415  (two seconds that only a download should cost)

    from setup.console import err  # noqa: PLC0415

    if not err.is_terminal:
        datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(name, config, split=split)
    except FileNotFoundError as error:
        raise _no_dataset(name, str(error)) from error
    except ValueError as error:
        raise FixableError(
            f"dataset {name} has no slice {split} in config {config} ({error})",
            fix="correct data.split or data.config",
        ) from error
    except OSError as error:
        raise FixableError(
            f"cannot download {name} ({error})",
            fix="check the network and run again, or use data.source=sample",
        ) from error


def _no_dataset(name: str, reason: str) -> FixableError:
    return FixableError(
        f"there is no dataset {name} ({reason})",
        fix="check data.source: a dataset id OWNER/NAME, a file, or sample",
    )


def _open_parquet(path: Path) -> Source:
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    try:
        # A buffer, else a whole row group is read at once, and that may be the whole file.
        file = parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
    except pa.ArrowInvalid as error:
        raise FixableError(
            f"{path} is not a Parquet file ({error})", fix="write it again"
        ) from error
    batches = (batch.to_pylist() for batch in file.iter_batches(BATCH_ROWS, use_threads=False))
    return Source(_number(path.name, batches), file.metadata.num_rows)


def _open_array(path: Path) -> Source:
    try:
        rows = orjson.loads(path.read_bytes().removeprefix(_BOM))
    except orjson.JSONDecodeError as error:
        raise FixableError(
            f"{path} is not valid JSON ({error})",
            fix="correct it, or write one row a line (.jsonl)",
        ) from error
    return Source(_number(path.name, _chunks(iter(rows))), len(rows))


def _first_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1024).removeprefix(_BOM).lstrip()[:1]


def _decode(name: str, number: int, line: bytes) -> Record:
    try:
        return Record(name, number, orjson.loads(line), line=line)
    except orjson.JSONDecodeError as error:
        reason = "not UTF-8" if _is_not_utf8(line) else f"not valid JSON: {error}"
        return Record(name, number, None, reason, line)


def _is_not_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def _number(name: str, batches: Iterable[list[Any]]) -> Iterator[list[Record]]:
    number = 0
    for rows in batches:
        yield [Record(name, number + place, row) for place, row in enumerate(rows, 1)]
        number += len(rows)


def _chunks(items: Iterator[Any]) -> Iterator[list[Any]]:
    while chunk := list(islice(items, BATCH_ROWS)):
        yield chunk
