"""The node after the judge: its reply as the outputs of the line."""

from typing import TYPE_CHECKING, Any

from promptflow.core import tool

# promptflow loads this from the flow's folder, and reads annotations as types: no __future__.
if TYPE_CHECKING or __package__:
    from .judging.outputs import outputs_of
else:
    from judging.outputs import outputs_of


@tool  # type: ignore[untyped-decorator]
def verdict(reply: str, mode: str, order: str = "") -> dict[str, Any]:
    """The flow's outputs; a reply that is no verdict scores nothing and is counted."""
    return outputs_of(reply, mode, order)
