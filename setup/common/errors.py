"""The one exception for what the user can put right."""

from __future__ import annotations


class FixableError(Exception):
    """Something the user must fix; printed as one line without a traceback, exit code 1.

    Args:
        what: What happened and where it was looked for, without a full stop.
        fix: The command or the change that puts it right.
    """

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        line = f"{self.what}. Fix: {self.fix}" if self.fix else self.what
        return " ".join(line.split())
