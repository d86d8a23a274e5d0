"""The cost of an answer, a node of its own: it stands in the record of a run, and is no output."""

from typing import Any

from promptflow.core import tool


# promptflow reads annotations as types: no __future__.
@tool  # type: ignore[untyped-decorator]
def usage(usage: dict[str, Any]) -> dict[str, Any]:
    """``{"prompt_tokens", "completion_tokens", "seconds"}``, each null where nobody knows."""
    return usage
