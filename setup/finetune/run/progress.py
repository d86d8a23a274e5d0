"""The bar of a run; without a terminal, a line at every evaluation."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich import progress as bars

from setup.common import console


def say(line: str) -> None:
    """A line on stderr about the run, once for all its processes."""
    if os.environ.get("RANK", "0") == "0":
        console.err.print(line, markup=False)


class Progress:
    """A context manager; ``total`` is the number of steps of the whole run."""

    def __init__(self, total: int, done: int, quiet: bool) -> None:
        self._total, self._held_out, self._loss = total, "", ""
        self._lines = not quiet and not console.err.is_terminal
        self._bar = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.fields[facts]}"),
            bars.TimeElapsedColumn(),
            bars.TimeRemainingColumn(),
            console=console.err,
            transient=True,
            disable=quiet or not console.err.is_terminal,
        )
        self._task = self._bar.add_task("Fine-tuning", total=total, completed=done, facts="")

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, step: int, loss: float, rate: float) -> None:
        """After a step: its loss in nats, and the run's tokens a second so far."""
        self._loss = f"loss {loss:.2f}"
        facts = " · ".join(
            part for part in (self._loss, self._held_out, f"{rate:.0f} tok/s") if part
        )
        self._bar.update(self._task, completed=step, facts=facts)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Say so while the held-out loss is measured."""
        self._bar.update(self._task, description="Measuring  ")
        yield
        self._bar.update(self._task, description="Fine-tuning")

    def evaluated(self, step: int, loss: float, rate: float) -> None:
        """A held-out loss came out; ``rate`` in tokens a second."""
        self._held_out = f"held-out {loss:.3f}"
        if self._lines:
            speed = f", {rate:.0f} tok/s" if step else ""
            line = f"fine-tuning: step {step}/{self._total}, held-out loss {loss:.3f}{speed}"
            console.err.print(line, markup=False)
