"""What came of one line of a batch run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

USAGE_NODE = "usage"
"""The node of the chat flow that says what an answer cost: no output, for a page shows those."""


@dataclass(frozen=True)
class LineError:
    """Why a line failed: the exception's class and its one line."""

    type: str
    message: str


@dataclass(frozen=True)
class Outcome:
    """Line ``line`` of the data: exactly one of the flow's ``outputs`` and an ``error``.

    ``aggregation`` is what the flow's aggregation node wants of the line. ``key`` names the line by
    what it asks, for runs whose lines may have other numbers the next time. ``usage`` is the output
    of the flow's node of that name, if it has one: the tokens and seconds of a chat's answer.
    """

    line: int
    outputs: dict[str, Any] | None = None
    error: LineError | None = None
    aggregation: dict[str, Any] = field(default_factory=dict)
    key: str = ""
    usage: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Outcome:
        """What :meth:`as_dict` made, now or when ``usage`` was an output of the chat flow.

        Raises:
            KeyError, TypeError: It is something else.
        """
        error, outputs = content["error"], content["outputs"]
        if "usage" not in content and outputs is not None:
            outputs = dict(outputs)
            content = {**content, "usage": outputs.pop("usage", None)}
        return cls(
            int(content["line"]),
            outputs,
            LineError(**error) if error else None,
            content["aggregation"],
            content["key"],
            content.get("usage"),
        )
