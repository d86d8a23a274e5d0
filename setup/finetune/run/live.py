"""The curve of a run while it goes on: a process beside it reads it and writes it to MLflow.

Importing MLflow takes seconds of one core and a hundred megabytes, and writing to it may wait for
others: nothing of that is in the process that trains. What goes wrong there is a line, no more.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from setup.common.console import say
from setup.common.errors import FixableError
from setup.common.paths import REPOSITORY
from setup.finetune.run.history import HELD_OUT_LOSS, LOSS, SPEED, Entry, Point, curve

FINISHED, KILLED, FAILED = "FINISHED", "KILLED", "FAILED"  # as MLflow calls the ends of a run
FINGERPRINT = "{fingerprint}"  # stands for the run's in a command that shows it
_EVERY = 2.0  # seconds between two looks at the curve
_PATIENCE = 30.0  # seconds that the end of a run waits for the last points to be written
_POLITE = 5  # less of the processor than the training beside it

Points = list[tuple[str, Point]]


class Place(Protocol):
    """The run in MLflow that the points of a curve go to."""

    def known(self) -> set[tuple[str, int]]:
        """The names and steps that it has already, from before the run was stopped."""

    def add(self, points: Points) -> None:
        """Write points."""

    def end(self, status: str) -> None:
        """Say how the run has ended."""


class Shown(NamedTuple):
    """The ``command`` that writes a run's curve to MLflow, which calls :func:`follow`.

    It is a module and its arguments; empty shows nothing. It is started ``after`` so many seconds
    of training: a shorter run is over before anyone looks, and would wait for MLflow alone.
    """

    command: Sequence[str] = ()
    after: float = 0.0


UNSHOWN = Shown()


@contextmanager
def shown_live(shown: Shown, folder: Path) -> Iterator[None]:
    """While the block trains in ``folder``, let its curve be written to MLflow."""
    if not shown.command or os.environ.get("RANK", "0") != "0":
        yield
        return
    started: list[tuple[subprocess.Popen[str], threading.Thread]] = []

    def start() -> None:
        process = _start([sys.executable, "-m", *shown.command, str(folder)])
        teller = threading.Thread(target=_tell, args=(process,), daemon=True)
        teller.start()
        started.append((process, teller))

    timer = threading.Timer(shown.after, start)
    timer.daemon = True
    timer.start() if shown.after else start()
    status = FAILED
    try:
        yield
        status = FINISHED
    except KeyboardInterrupt:
        status = KILLED
        raise
    finally:
        timer.cancel()
        if timer.ident is not None:
            timer.join()
        for process, teller in started:
            _finish(process, status)
            teller.join(1)


def _start(command: list[str]) -> subprocess.Popen[str]:
    # In a session or group of its own, which no Ctrl-C of this terminal reaches.
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )


def _tell(process: subprocess.Popen[str]) -> None:
    """Say what it says, in this process, whose bar is on the terminal."""
    for line in process.stdout or ():
        say(f"fine-tuning: {line.strip()}")


def _finish(process: subprocess.Popen[str], status: str) -> None:
    """Hand over how the run has ended, and wait until it is written down."""
    with suppress(OSError, ValueError):  # it may have gone already
        assert process.stdin is not None  # noqa: S101 - for mypy
        process.stdin.write(status)
        process.stdin.close()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        say("fine-tuning: the last points are still being written to MLflow")


def follow(history: Path, place: Place) -> None:
    """Write the curve in ``history`` to ``place`` until the run beside has ended.

    Called in the process of :func:`shown_live`, which says how it has ended on stdin; a run that
    was killed says nothing there.
    """
    ended: list[str] = []
    listener = threading.Thread(target=lambda: ended.append(sys.stdin.read()), daemon=True)
    listener.start()
    known = place.known()
    while True:
        listener.join(_EVERY)
        is_over = bool(ended)  # read before the curve, so that the last point is in it
        points = [pair for pair in _points(history) if (pair[0], pair[1].step) not in known]
        if points:
            place.add(points)
            known |= {(name, point.step) for name, point in points}
        if is_over:
            place.end(ended[0].strip() or FAILED)
            return


def _points(history: Path) -> Points:
    """Return the points of all curves so far; a line that is being written counts later."""
    try:
        text = history.read_text(encoding="utf-8").rpartition("\n")[0]
    except FileNotFoundError:
        return []
    entries = [Entry.model_validate_json(line) for line in text.splitlines() if line]
    names = (LOSS, HELD_OUT_LOSS, SPEED)
    return [(name, point) for name in names for point in curve(entries, name)]


@contextmanager
def in_one_line() -> Iterator[None]:
    """In the process that follows: tell what fails in one line on stdout, and end."""
    if hasattr(os, "nice"):
        os.nice(_POLITE)
    try:
        yield
    except FixableError as error:
        print(f"the curve is not in MLflow: {error}", flush=True)  # noqa: T201 - to its parent
    except Exception as error:  # noqa: BLE001 - whatever it is, the training goes on
        reason = " ".join(str(error).split())[:200]
        print(f"the curve is not in MLflow: {type(error).__name__}: {reason}", flush=True)  # noqa: T201
