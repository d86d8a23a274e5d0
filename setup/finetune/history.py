"""The curve of a run: one JSON object a line, and the only memory of its best step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


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
        """How many evaluations came after the best one."""
        later = self.evaluations[1:]
        return sum(step > self.best[0] for step, _ in later) if later else 0

    def last(self, name: str) -> float:
        """The last value of ``name``, 0 where there is none."""
        return next((float(row[name]) for row in reversed(self.rows) if name in row), 0.0)
