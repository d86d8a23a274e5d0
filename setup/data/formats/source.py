"""A row as a source gives it, and a source as records to come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Record:
    """A row as it was read.

    Attributes:
        file: The file or the dataset.
        number: The line of a text file, else the row; from 1.
        row: The decoded row, None when it cannot be decoded.
        problem: Why it cannot be used, as far as it is known.
        line: The original bytes, where a row is a line.
        given: What was read, where a row is no line and ``row`` is made of it.
    """

    file: str
    number: int
    row: Any
    problem: str = ""
    line: bytes | None = None
    given: Any = None


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
