"""The one exception for what the user can put right."""

from __future__ import annotations

from typing import Self

_UNNAMED = " --recipe NAME"


def name_recipe(text: str, options: str) -> str:
    """Put the ``options`` that name the recipe into the commands of ``text`` that leave it open."""
    return text.replace(_UNNAMED, f" {options}" if options else "")


class FixableError(Exception):
    """Something the user must fix; printed as one line without a traceback, exit code 1.

    Commands end in `` --recipe NAME`` where only a caller knows the recipe, which ``named`` gives.

    Args:
        what: What happened and where it was looked for, without a full stop.
        fix: The command or the change that puts it right.
    """

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix

    def named(self, options: str = "") -> Self:
        """Return it with the ``options`` that name the recipe in its commands."""
        self.what, self.fix = name_recipe(self.what, options), name_recipe(self.fix, options)
        return self

    def __str__(self) -> str:
        line = f"{self.what}. Fix: {self.fix}" if self.fix else self.what
        return " ".join(name_recipe(line, "").split())
