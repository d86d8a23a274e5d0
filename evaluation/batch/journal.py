"""Every line's outcome on disk as soon as it is known, so that nothing is asked twice."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from evaluation.batch.outcome import Outcome


class Journal:
    """An append-only JSONL file of outcomes; the last one of a line counts. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def read(self) -> dict[int, Outcome]:
        """The outcomes so far by line; what a kill cut off in the middle is not there."""
        return {outcome.line: outcome for outcome in self._outcomes()}

    def read_by_key(self) -> dict[str, Outcome]:
        """The same by key."""
        return {outcome.key: outcome for outcome in self._outcomes()}

    def _outcomes(self) -> Iterator[Outcome]:
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            for line in file:
                outcome = _parse(line)
                if outcome:
                    yield outcome

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Open for :meth:`append` while the block runs; a line cut off before is ended first."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as self._file:
            if self._file.tell() and not _ends_a_line(self.path):
                self._file.write(b"\n")
            yield

    def append(self, outcome: Outcome) -> None:
        """Keep ``outcome``; handed to the system before this returns, so a kill loses nothing."""
        line = orjson.dumps(outcome.as_dict(), option=orjson.OPT_APPEND_NEWLINE)
        with self._lock:
            self._file.write(line)
            self._file.flush()


def _parse(line: bytes) -> Outcome | None:
    try:
        return Outcome.from_dict(orjson.loads(line))
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"


def line_key(line: Mapping[str, Any]) -> str:
    """A name for what a line asks: the same line has it again, whatever its number."""
    return hashlib.sha256(orjson.dumps(line, option=orjson.OPT_SORT_KEYS)).hexdigest()


def recall(journal: Journal, keys: Sequence[str]) -> dict[int, Outcome]:
    """The journal's outcomes for the lines with these keys, under their numbers of now.

    Failed ones are not among them: what failed is run again.
    """
    known = journal.read_by_key()
    found = {line: known[key] for line, key in enumerate(keys) if key in known}
    return {line: replace(o, line=line) for line, o in found.items() if o.error is None}


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write JSON lines to ``path``, whole or not at all."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with draft.open("wb") as file:
            for row in rows:
                file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
