"""Long-running operations of Azure: begun when nothing is in the way, followed to their end."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any, TypeVar

from setup import console
from setup.console import progress_bar
from setup.errors import FixableError

if TYPE_CHECKING:
    from azure.core.polling import LROPoller

PAUSE = 15.0  # seconds between two looks
BUSY_FOR = 900.0  # seconds that another operation may stand in the way
_TELL_EVERY = 60.0
_UNDER_WAY = ("creating", "updating", "scaling", "deleting", "canceling", "accepted", "inprogress")

T = TypeVar("T")


def under_way(state: str | None) -> bool:
    """Whether a provisioning state is one that ends by itself."""
    return (state or "").lower() in _UNDER_WAY


def when_free(what: str, begin: Callable[[], T]) -> T:
    """What ``begin`` returns, called again while Azure answers 409: another operation is running.

    ``begin`` looks anew each time: its own request may be the one that is running, when the
    answer to it was lost.

    Raises:
        FixableError: The other operation runs for longer than ``BUSY_FOR``.
        AzureError: What else ``begin`` raises.
    """
    from azure.core.exceptions import HttpResponseError  # noqa: PLC0415 - azure is slow

    deadline = time.monotonic() + BUSY_FOR
    while True:
        try:
            return begin()
        except HttpResponseError as error:
            if error.status_code != 409:
                raise
        if time.monotonic() > deadline:
            raise FixableError(
                f"{what}: another operation has been running for {BUSY_FOR / 60:.0f} minutes",
                "run the same command again when it is done",
            )
        console.err.print(f"{what}: waiting for another operation to end", markup=False)
        time.sleep(PAUSE)


def follow(
    what: str, poller: LROPoller[Any] | None, state: Callable[[], str], patience: float
) -> str:
    """Wait for an operation to end and return the state it ended in.

    Args:
        what: Names it in what is printed.
        poller: Of the operation, None for one that another command has begun.
        state: Asks for the provisioning state.
        patience: Seconds to wait; it goes on in Azure after that.

    Raises:
        FixableError: It takes longer than ``patience``.
        AzureError: It failed, or Azure cannot be asked.
    """
    started = time.monotonic()
    told = started
    with progress_bar(what):
        while True:
            if poller is None:
                now = state()
                if not under_way(now):
                    return now
                time.sleep(PAUSE)
            elif _ended(poller):
                return state()
            passed = time.monotonic() - started
            if passed > patience:
                raise FixableError(
                    f"{what}: not done after {passed / 60:.0f} minutes; it goes on in Azure",
                    "run the same command again: it follows what is under way",
                )
            if time.monotonic() - told > _TELL_EVERY and not console.err.is_terminal:
                told = time.monotonic()
                console.err.print(f"{what}: {passed / 60:.0f} minutes", markup=False)


def _ended(poller: LROPoller[Any]) -> bool:
    poller.wait(PAUSE)
    if poller.done():
        poller.result()
        return True
    return False


@contextmanager
def nothing_printed() -> Iterator[None]:
    """Keep azure-ai-ml from printing: dots while it looks, blanks after uploads."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield
