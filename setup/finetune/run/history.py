"""The curve of a run: one JSON object a line, and the only memory of its best step."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from setup.common.errors import FixableError


class History:
    """Rows ``{"step", "epoch", "seconds", "tokens", "loss" | "held_out_loss"}`` in a file.

    A checkpoint keeps a copy and puts it back, so that the file of a killed and resumed run tells
    the same story as that of one that was never stopped. Only the first of several processes
    ``writes``.
    """

    def __init__(self, path: Path, writes: bool) -> None:
        self._path, self._writes = path, writes
        self.rows: list[dict[str, Any]] = []

    def resume(self, step: int) -> None:
        """Take up the rows of the checkpoint of ``step``, or begin anew for 0."""
        if step:
            lines = self._path.read_text(encoding="utf-8").splitlines()
            self.rows = [json.loads(line) for line in lines]
        elif self._writes:
            self._path.unlink(missing_ok=True)

    def add(self, row: dict[str, Any]) -> None:
        """Append one row."""
        self.rows.append(row)
        if not self._writes:
            return
        with self._path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(row) + "\n")

    @property
    def evaluations(self) -> list[tuple[int, float]]:
        """Steps and held-out losses, the one before training first."""
        return [(row["step"], row["held_out_loss"]) for row in self.rows if "held_out_loss" in row]

    @property
    def best(self) -> tuple[int, float]:
        """The step after which the held-out loss was lowest, and that loss."""
        return min(self.evaluations[1:], key=lambda pair: pair[1])

    @property
    def without_improvement(self) -> int:
        """The number of evaluations after the best one."""
        later = self.evaluations[1:]
        return sum(step > self.best[0] for step, _ in later) if later else 0

    def last(self, name: str) -> float:
        """The last value of ``name``, 0 where there is none."""
        return next((float(row[name]) for row in reversed(self.rows) if name in row), 0.0)


LOSS = "loss"
HELD_OUT_LOSS = "held_out_loss"
SPEED = "tokens_per_second"


class Entry(BaseModel):
    """A line of ``history.jsonl``; ``seconds`` and ``tokens`` count from the start of the run."""

    model_config = ConfigDict(frozen=True)

    step: int
    epoch: float
    seconds: float
    tokens: int
    loss: float | None = None
    held_out_loss: float | None = None


class Point(NamedTuple):
    """One value of a curve: losses in nats per token, ``seconds`` from the start of the run."""

    step: int
    seconds: float
    value: float


def read_history(path: Path) -> list[Entry]:
    """The entries of ``path`` in the order they were written.

    Raises:
        FixableError: No such file, nothing in it, or a line that is not an entry.
    """
    entries: list[Entry] = []
    number = 0
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            number += 1
            entries += [Entry.model_validate_json(line)] if line else []
    except ValidationError as error:
        what = f"{path}:{number} is not an entry: {error.errors()[0]['msg']}"
        raise FixableError(what, "fine-tune again") from None
    except (OSError, UnicodeDecodeError) as error:
        raise FixableError(f"{path} cannot be read: {error}", "fine-tune again") from None
    if not entries:
        raise FixableError(f"{path} is empty", "fine-tune again")
    return entries


def curve(entries: list[Entry], name: str) -> list[Point]:
    """The points of ``loss``, ``held_out_loss`` or ``tokens_per_second`` in the order of steps.

    A run that was interrupted trains the steps after its checkpoint twice: the last one counts.
    """
    if name == SPEED:
        points = _speeds(entries)
    else:
        values = ((entry, getattr(entry, name)) for entry in entries)
        points = (Point(e.step, e.seconds, value) for e, value in values if value is not None)
    latest = {point.step: point for point in points}
    return [latest[step] for step in sorted(latest)]


def _speeds(entries: list[Entry]) -> Iterator[Point]:
    """Tokens per second between two entries with a training loss; evaluations in between count."""
    trained = [entry for entry in entries if entry.loss is not None]
    for before, after in pairwise(trained):
        tokens, seconds = after.tokens - before.tokens, after.seconds - before.seconds
        # Not after an interruption, where both counters go back to those of the checkpoint.
        if tokens > 0 and seconds > 0:
            yield Point(after.step, after.seconds, tokens / seconds)
