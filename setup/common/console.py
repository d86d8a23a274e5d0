"""The output of the commands: results on stdout, progress on stderr, a bar only on a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

INTERRUPTED = 130  # the exit code that typer makes of Ctrl-C
out = Console(file=sys.stdout, highlight=False, soft_wrap=True, emoji=False)
TASK = TaskID(0)
err = Console(file=sys.stderr, highlight=False, soft_wrap=True, emoji=False)


def shorten(text: Any, limit: int = 60) -> str:
    """The first words of ``text`` in one line."""
    line = " ".join(str(text).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def say(line: str) -> None:
    """Print a line of progress, once for all processes of a ``torchrun``."""
    if os.environ.get("RANK", "0") == "0":
        err.print(line, markup=False)


@contextmanager
def after_interrupt(text: str) -> Iterator[None]:
    """Say ``text`` when Ctrl-C ends the block."""
    try:
        yield
    except (KeyboardInterrupt, Stopped):
        err.print(text, markup=False)
        raise


class Stopped(SystemExit):
    """Ctrl-C has ended a command, and ``command`` goes on with what it has done."""

    def __init__(self, command: str) -> None:
        super().__init__(INTERRUPTED)
        self.command = command


@contextmanager
def progress_bar(label: str, total: float | None = None) -> Iterator[Progress]:
    """A bar on stderr while the block runs; invisible when stderr is not a terminal.

    The bar has one task, ``TASK``: call ``bar.update(TASK, completed=n)``, and with ``left``, in
    seconds, where the caller knows better what is left than the speed so far tells.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        _TimeLeftColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        bar.add_task(label, total=total)
        yield bar


class _TimeLeftColumn(TimeRemainingColumn):
    """The seconds in the task's field ``left`` where it has one, else as rich guesses them."""

    def render(self, task: Task) -> Text:
        left = task.fields.get("left")
        if left is None:
            return super().render(task)
        return Text(str(timedelta(seconds=round(left))), style="progress.remaining")


@contextmanager
def counting(label: str, total: float | None = None) -> Iterator[Callable[..., None]]:
    """A bar as a function that is told what is done, and of how much where that was not known."""
    with progress_bar(label, total) as bar:

        def tell(done: float, total: float | None = None) -> None:
            bar.update(TASK, completed=done, total=total)

        yield tell
