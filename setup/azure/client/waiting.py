"""The one wait for Azure, and long-running operations: begun when nothing is in the way."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, TypeVar

from setup.common import console
from setup.common.console import progress_bar
from setup.common.errors import FixableError

if TYPE_CHECKING:
    from azure.core.polling import LROPoller

PAUSE = 15.0  # seconds between two looks, at most
BUSY_FOR = 900.0  # seconds that another operation may stand in the way
_FIRST_PAUSE, _GROWTH = 0.2, 1.5
_TELL_EVERY = 60.0
_POLLED = 1.0  # seconds: the poller of an SDK looks by itself, at a pace that Azure names
_CONFLICT = 409
_UNDER_WAY = ("creating", "updating", "scaling", "deleting", "canceling", "accepted", "inprogress")

T = TypeVar("T")


class NotYetError(FixableError):
    """Something that was waited for and has not come; it may still, without us."""


def wait_until(look: Callable[[], T | None], patience: float, pause: float, what: str) -> T:
    """Call ``look`` until what it returns is true, and return that.

    Args:
        look: Asks Azure once; what it raises ends the wait.
        patience: Seconds to wait in all.
        pause: Seconds between two looks, ``PAUSE`` at most; the first ones follow sooner.
        what: Names it in what is printed, once a minute where there is no bar to see; empty
            prints nothing.

    Raises:
        NotYetError: It takes longer than ``patience``.
    """
    started = told = monotonic()
    longest = min(pause, PAUSE)
    pause = min(_FIRST_PAUSE, longest)
    while not (seen := look()):
        now = monotonic()
        if now - started > patience:
            raise NotYetError(
                f"{what}: not done after {patience / 60:.0f} minutes; it goes on in Azure",
                "run the same command again: it follows what is under way",
            )
        if what and now - told > _TELL_EVERY and not console.err.is_terminal:
            told = now
            console.err.print(f"{what}: {(now - started) / 60:.0f} minutes", markup=False)
        sleep(pause)
        pause = min(pause * _GROWTH, longest)
    return seen


def under_way(state: str | None) -> bool:
    """Tell whether a provisioning state is one that ends by itself."""
    return (state or "").lower() in _UNDER_WAY


def when_free(what: str, begin: Callable[[], T]) -> T:
    """Return what ``begin`` returns, called again while Azure answers 409: something else runs.

    ``begin`` looks anew each time: its own request may be the one that is running, when the
    answer to it was lost. A lock is no operation, which would end by itself.
    """
    from azure.core.exceptions import HttpResponseError

    def attempt() -> tuple[T] | None:
        try:
            return (begin(),)
        except HttpResponseError as error:
            if error.status_code != _CONFLICT or "ScopeLocked" in str(error):
                raise
        return None

    if begun := attempt():
        return begun[0]
    console.err.print(f"{what}: waiting for another operation to end", markup=False)
    try:
        return wait_until(attempt, BUSY_FOR, PAUSE, what)[0]
    except NotYetError:
        raise FixableError(
            f"{what}: another operation has been running for {BUSY_FOR / 60:.0f} minutes",
            "run the same command again when it is done",
        ) from None


def follow(
    what: str, poller: LROPoller[Any] | None, state: Callable[[], str], patience: float
) -> str:
    """Wait for an operation to end and return the state it ended in, as ``state`` asks for it.

    ``poller`` is None where another command has begun it. Raises NotYetError after ``patience``
    seconds, and AzureError where it failed.
    """

    def ended() -> str:
        now = state()
        return "" if under_way(now) else now

    with progress_bar(what):
        if poller is None:
            return wait_until(ended, patience, PAUSE, what)
        wait_until(poller.done, patience, _POLLED, what)
        poller.result()
        return state()


@contextmanager
def nothing_printed() -> Iterator[None]:
    """Keep azure-ai-ml from printing: dots while it looks, blanks after uploads."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield
