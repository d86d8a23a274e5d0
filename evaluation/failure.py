"""The one record of what failed, from the flow's client to the journal, the rows and the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_FIX = ". Fix: "


@dataclass(frozen=True)
class Failure:
    """The cause of a line's failure: the exception's class, what it says, and what mends it."""

    kind: str
    text: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"

    @property
    def line(self) -> str:
        """The whole of it, as a report and rows.csv show it."""
        return f"{self.text}{_FIX}{self.fix}" if self.fix else self.text

    @classmethod
    def parse(cls, kind: str, line: str) -> Failure:
        """Read the line of an exception, whose fix stands at the end."""
        text, _, fix = line.partition(_FIX)
        return cls(kind, text, fix)

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return {"type": self.kind, "message": self.text, "fix": self.fix}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any] | None) -> Failure | None:
        """Read what :meth:`as_dict` made, now or when the fix was the end of the message."""
        if not content:
            return None
        kind, text = str(content["type"]), str(content["message"])
        return cls(kind, text, str(content["fix"])) if "fix" in content else cls.parse(kind, text)
