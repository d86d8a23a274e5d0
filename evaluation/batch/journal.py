"""Every line's outcome on disk as soon as it is known, so that nothing is asked twice."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from setup.common.files import replace_together


class Journal:
    """An append-only JSONL file of outcomes; the last one of a line counts. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def read(self) -> dict[int, Outcome]:
        """The outcomes so far by line; what a kill cut off in the middle is not there."""
        return {outcome.line: outcome for outcome in self._outcomes()}

    def read_by_key(self) -> dict[str, Outcome]:
        """The outcomes so far by key; what a kill cut off in the middle is not there."""
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
    outcomes = {line: known[key] for line, key in enumerate(keys) if key in known}
    return {line: replace(o, line=line) for line, o in outcomes.items() if o.error is None}


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write JSON lines to ``path``, whole or not at all."""
    with replace_together(path) as (file,):
        for row in rows:
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))


USAGE_NODE = "usage"
"""The node of the chat flow that says what an answer cost: no output, for a page shows those."""


@dataclass(frozen=True)
class LineError:
    """The cause of a line's failure: the exception's class and its one line."""

    type: str
    message: str


@dataclass(frozen=True)
class Outcome:
    """Line ``line`` of the data: exactly one of the flow's ``outputs`` and an ``error``.

    ``aggregation`` is what the flow's aggregation node wants of the line. ``key`` names the line by
    what it asks, for runs whose lines may have other numbers the next time. ``usage`` is the output
    of the flow's node of that name, if it has one: the tokens and seconds of a chat's answer.
    """

    line: int
    outputs: dict[str, Any] | None = None
    error: LineError | None = None
    aggregation: dict[str, Any] = field(default_factory=dict)
    key: str = ""
    usage: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Outcome:
        """Read what :meth:`as_dict` made, now or when ``usage`` was an output of the chat flow.

        Raises:
            KeyError, TypeError: It is something else.
        """
        error, outputs = content["error"], content["outputs"]
        if "usage" not in content and outputs is not None:
            outputs = dict(outputs)
            content = {**content, "usage": outputs.pop("usage", None)}
        return cls(
            int(content["line"]),
            outputs,
            LineError(**error) if error else None,
            content["aggregation"],
            content["key"],
            content.get("usage"),
        )
