"""Nothing that costs money is made unasked."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from setup.azure.facts.prices import Billable, price_lines
from setup.common import console
from setup.common.errors import FixableError

_said_yes = ContextVar("said_yes", default=False)


@contextmanager
def answered(yes: bool) -> Iterator[None]:
    """While the block runs, ``confirm`` takes the command line's ``--yes`` as the answer."""
    token = _said_yes.set(yes)
    try:
        yield
    finally:
        _said_yes.reset(token)


def confirm(items: Sequence[Billable], yes: bool | None = None) -> None:
    """Show what would be made and at what price, if anything, and go on only if the user agrees.

    ``yes`` None is what the command line was told. Raises FixableError where nobody agrees.
    """
    if items:
        agree("this makes what costs money:", price_lines(items), yes)


def agree(what: str, lines: Sequence[str], yes: bool | None = None) -> None:
    """Show ``what`` and ``lines``, and go on only if the user agrees; as ``confirm`` otherwise."""
    agreed = _said_yes.get() if yes is None else yes
    if not agreed and not sys.stdin.isatty():
        raise FixableError(
            f"nobody is there to agree; {what} {'; '.join(lines)}", "the same command with --yes"
        )
    for line in (what, *(f"  {line}" for line in lines)):
        console.err.print(line, markup=False)
    if not agreed and not _says_yes():
        raise FixableError("stopped: you did not agree", "the same command with --yes")


def _says_yes() -> bool:
    try:
        said = console.err.input("go on? [y/N] ", markup=False)
    except EOFError:  # Ctrl-D
        return False
    return said.strip().lower() in ("y", "yes")
