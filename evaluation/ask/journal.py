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

from evaluation.failure import Failure
from setup.common.files import replace_together

USAGE_NODE = "usage"
"""The node of the chat flow that says what an answer cost: no output, for a page shows those."""


@dataclass(frozen=True)
class Outcome:
    """Line ``line`` of the data: exactly one of the flow's ``outputs`` and an ``error``.

    ``aggregation`` is what the flow's aggregation node wants of the line. ``key`` names the line by
    what it asks, for runs whose lines may have other numbers the next time. ``usage`` is the output
    of the flow's node of that name, if it has one: the tokens and seconds of a chat's answer.
    """

    line: int
    outputs: dict[str, Any] | None = None
    error: Failure | None = None
    aggregation: dict[str, Any] = field(default_factory=dict)
    key: str = ""
    usage: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"error": self.error and self.error.as_dict()}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Outcome:
        """Read what :meth:`as_dict` made, now or when ``usage`` was an output of the chat flow."""
        outputs, usage = content["outputs"], content.get("usage")
        if "usage" not in content and outputs is not None:
            outputs = dict(outputs)
            usage = outputs.pop("usage", None)
        error = Failure.from_dict(content["error"])
        line, key = int(content["line"]), content["key"]
        return cls(line, outputs, error, content["aggregation"], key, usage)


class Journal:
    """An append-only JSONL file of outcomes; the last one of a line counts. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def read(self) -> dict[int, Outcome]:
        """The outcomes so far by line; what a kill cut off in the middle is not there."""
        return {outcome.line: outcome for outcome in self._outcomes()}

    def recall(self, keys: Sequence[str]) -> dict[int, Outcome]:
        """The outcomes of the lines with these keys, under their numbers of now.

        Failed ones are not among them: what failed is run again.
        """
        known = {outcome.key: outcome for outcome in self._outcomes()}
        outcomes = {line: known[key] for line, key in enumerate(keys) if key in known}
        return {line: replace(o, line=line) for line, o in outcomes.items() if o.error is None}

    def _outcomes(self) -> Iterator[Outcome]:
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            for line in file:
                try:
                    yield Outcome.from_dict(orjson.loads(line))
                except (orjson.JSONDecodeError, KeyError, TypeError):
                    continue

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Open for :meth:`append` while the block runs; a line cut off before is ended first."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as self._file:
            if self._file.tell():
                self._file.seek(-1, 2)
                if self._file.read(1) != b"\n":
                    self._file.write(b"\n")
            yield

    def extend(self, outcomes: Iterable[Outcome]) -> None:
        """Keep ``outcomes``, which are known already."""
        with self.writing():
            for outcome in outcomes:
                self.append(outcome)

    def append(self, outcome: Outcome) -> None:
        """Keep ``outcome``; handed to the system before this returns, so a kill loses nothing."""
        line = orjson.dumps(outcome.as_dict(), option=orjson.OPT_APPEND_NEWLINE)
        with self._lock:
            self._file.write(line)
            self._file.flush()


def line_key(line: Mapping[str, Any]) -> str:
    """A name for what a line asks: the same line has it again, whatever its number."""
    return hashlib.sha256(orjson.dumps(line, option=orjson.OPT_SORT_KEYS)).hexdigest()


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write JSON lines to ``path``, whole or not at all."""
    with replace_together(path) as (file,):
        for row in rows:
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
