"""A row as it was read, and the rows of a source to come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from setup.common.files import fixable_read
from setup.data.convert import BATCH_ROWS


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
        batches: The records; a reading that fails is the user's to fix.
        total: How many there are, None when only reading tells.
        revision: The commit of a hub dataset, "" where there is none.
        notes: What was chosen or changed in reading, with the number of rows (0: of all).
    """

    batches: Iterable[list[Record]]
    total: int | None = None
    revision: str = ""
    notes: Counter[str] = field(default_factory=Counter)

    def said(self) -> tuple[str, ...]:
        """The notes as lines; complete when all batches were read."""
        return tuple(f"{rows} rows: {note}" if rows else note for note, rows in self.notes.items())


def numbered(name: str, batches: Iterable[list[Any]]) -> Iterator[list[Record]]:
    """The rows as records of ``name``, counted from 1."""
    number = 0
    for rows in batches:
        yield [Record(name, number + place, row) for place, row in enumerate(rows, 1)]
        number += len(rows)


def chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    """The items in lists of one batch."""
    remaining = iter(items)
    while chunk := list(islice(remaining, BATCH_ROWS)):
        yield chunk


def readable(name: str, batches: Iterable[list[Record]]) -> Iterator[list[Record]]:
    """The batches; what the disk or the network refuses meanwhile is one line.

    Raises:
        FixableError: The source cannot be read on.
    """
    with fixable_read(name):
        yield from batches
