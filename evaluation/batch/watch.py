"""The view of a batch run while it runs, and the rule for giving it up."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from evaluation.batch.journal import Outcome
from evaluation.batch.pf_run import FlowRun, run_flow
from setup.common import console
from setup.common.errors import FixableError

GIVE_UP_AFTER = 20
"""So many failures one after another are no bad luck: what comes next would fail too."""

_INTERRUPTED = 130


class Interrupted(Exception):  # noqa: N818 - it is no error
    """Ctrl-C ended a run; what it had answered by then is kept."""


class Watch:
    """Counts lines and errors, draws the bar, and sets ``stopping`` when there is no sense in more.

    ``last_error`` is the line of the newest failure, ``given_up`` says that failures stopped it,
    ``interrupted`` that Ctrl-C did.
    """

    def __init__(self, label: str, total: int | None, stopping: threading.Event) -> None:
        self.last_error = ""
        self.errors = self.done = 0
        self.given_up = self.interrupted = False
        self._in_a_row = 0
        self._stopping = stopping
        self._lock = threading.Lock()
        self._progress = _bar()
        self._task: TaskID = self._progress.add_task(label, total=total, rate="", errors="")

    def see(self, outcome: Outcome) -> None:
        """One more line is done."""
        with self._lock:
            self.done += 1
            self._in_a_row = self._in_a_row + 1 if outcome.error else 0
            if outcome.error:
                self.errors += 1
                self.last_error = f"{outcome.error.type}: {outcome.error.message}"
            if self._in_a_row >= GIVE_UP_AFTER:
                self.given_up = True
                self._stopping.set()
            self._draw()

    def _draw(self) -> None:
        elapsed = self._progress.tasks[0].elapsed or 0.0
        rate = f"{self.done / elapsed:.1f} rows/s" if elapsed > 1 else ""
        errors = f"[red]{self.errors} failed[/red]" if self.errors else ""
        self._progress.update(self._task, completed=self.done, rate=rate, errors=errors)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Draw the bar and take Ctrl-C while the block runs."""
        with self._progress, self._taking_interrupts():
            yield

    @contextmanager
    def _taking_interrupts(self) -> Iterator[None]:
        """promptflow waits for its threads where Ctrl-C cannot reach them, so it is taken here."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _interrupt(self, _: int, __: FrameType | None) -> None:
        if self.interrupted:
            # What is in flight may take minutes, and nothing known is lost: the journal has it.
            console.err.print("left at once; what was in flight will be asked again")
            os._exit(_INTERRUPTED)
        self.interrupted = True
        self._stopping.set()
        console.err.print("stopping: waiting for the lines in flight (Ctrl-C again to leave them)")


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[errors]}"),
        TimeRemainingColumn(),
        console=console.err,
        transient=True,
        disable=not console.err.is_terminal,
    )


def run_watched(  # noqa: PLR0913, PLR0917  # one batch run has so many sides
    flow_run: FlowRun,
    label: str,
    total: int | None,
    workers: int,
    known: Mapping[int, Outcome],
    tell: Iterable[Callable[[Outcome], None]],
    again: str = "python -m setup doctor, then the same command with --retry-errors",
) -> dict[str, float]:
    """Run ``flow_run`` with a bar of ``total`` lines (None: not known) and return its metrics.

    ``known`` lines are not run; ``tell`` hears of each of the others, one at a time. ``again`` is
    the fix to name when the run is given up.

    Raises:
        FixableError: promptflow refused it, or so many lines failed one after another that it was
            given up.
        Interrupted: Ctrl-C; promptflow has recorded the run as failed.
    """
    from evaluation.batch.threads import Lines  # noqa: PLC0415 - imports promptflow

    stopping = threading.Event()
    watch = Watch(label, total, stopping)
    listeners, one_at_a_time = [*tell, watch.see], threading.Lock()

    def on_line(outcome: Outcome) -> None:
        with one_at_a_time:
            for listen in listeners:
                listen(outcome)

    try:
        with watch.watching():
            metrics = run_flow(flow_run, Lines(workers, known, on_line, stopping))
    except FixableError:
        if watch.interrupted:
            raise Interrupted(flow_run.name) from None
        if watch.given_up:
            raise FixableError(
                f"{GIVE_UP_AFTER} lines failed one after another, the last with {watch.last_error}",
                again,
            ) from None
        raise
    if watch.interrupted:  # the lines in flight were the last ones
        raise Interrupted(flow_run.name)
    return metrics
