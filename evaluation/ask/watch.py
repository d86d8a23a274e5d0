"""The view of a batch run while it runs, and the rule for giving it up."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from evaluation.ask.journal import Outcome
from evaluation.failure import Failure
from setup.common import console
from setup.common.errors import FixableError

GIVE_UP_AFTER = 20
"""So many failures one after another are no bad luck: what comes next would fail too."""

AGAIN = "python -m setup doctor, then the same command with --retry-errors"
_INTERRUPTED = 130


class Interrupted(Exception):  # noqa: N818 - it is no error
    """Ctrl-C ended a run; what it had answered by then is kept."""


class Watch:
    """The rules for working off the lines of one run, a bar of them, and the switch that stops it.

    ``known`` are outcomes of an earlier attempt: these lines are not run again. ``keep`` hears of
    each of the other ``total``, one at a time. After :attr:`stopping` is set no line is begun.
    ``again`` is the fix to name when the run is given up.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # one batch run has so many sides
        self,
        label: str,
        total: int,
        workers: int,
        known: Mapping[int, Outcome],
        keep: Callable[[Outcome], None],
        again: str = AGAIN,
    ) -> None:
        self.workers, self.known, self.stopping = workers, known, threading.Event()
        self._keep, self._again = keep, again
        self._errors = self._done = self._in_a_row = 0
        self._last: Failure | None = None
        self._given_up = self._interrupted = False
        self._lock = threading.Lock()
        self._bar = Progress(
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
        self._bar.add_task(label, total=total, rate="", errors="")

    def see(self, outcome: Outcome) -> None:
        """One more line is done; called from the threads, once for each line that was run."""
        with self._lock:
            self._keep(outcome)
            self._done += 1
            self._in_a_row = self._in_a_row + 1 if outcome.error else 0
            self._errors += outcome.error is not None
            self._last = outcome.error or self._last
            if self._in_a_row >= GIVE_UP_AFTER:
                self._given_up = True
                self.stopping.set()
            elapsed = self._bar.tasks[0].elapsed or 0.0
            rate = f"{self._done / elapsed:.1f} rows/s" if elapsed > 1 else ""
            errors = f"[red]{self._errors} failed[/red]" if self._errors else ""
            self._bar.update(console.TASK, completed=self._done, rate=rate, errors=errors)

    @contextmanager
    def watching(self, name: str) -> Iterator[None]:
        """Draw the bar and take Ctrl-C while the block runs the run ``name``.

        Raises:
            FixableError: So many lines failed one after another that the run was given up.
            Interrupted: Ctrl-C.
        """
        try:
            with self._bar, self._taking_interrupts():
                yield
        except FixableError:
            if self._given_up and not self._interrupted and self._last:
                what = f"{GIVE_UP_AFTER} lines failed one after another, the last with {self._last}"
                fix = "; ".join(filter(None, (self._last.fix, self._again)))
                raise FixableError(what, fix) from None
            if not self._interrupted:
                raise
        if self._interrupted:
            raise Interrupted(name)

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
        if self._interrupted:
            # What is in flight may take minutes, and nothing known is lost: the journal has it.
            console.err.print("left at once; what was in flight will be asked again")
            os._exit(_INTERRUPTED)
        self._interrupted = True
        self.stopping.set()
        console.err.print("stopping: waiting for the lines in flight (Ctrl-C again to leave them)")
