"""The chat node: a question and its history in, the endpoint's answer and its cost out."""

from functools import partial
from typing import TYPE_CHECKING, Any

from promptflow.connections import CustomConnection
from promptflow.core import tool
from promptflow.exceptions import ErrorTarget, UserErrorException

# promptflow loads this from the flow's folder, and reads annotations as types: no __future__.
if TYPE_CHECKING or __package__:
    from .scoring_client.turn import NamedError, Turn
else:
    from scoring_client.turn import NamedError, Turn


class ChatError(NamedError, UserErrorException):  # type: ignore[misc]
    """One of the endpoint's errors as promptflow reports it."""


@tool  # type: ignore[untyped-decorator]
def chat(  # noqa: PLR0913, PLR0917  # a node's inputs are its parameters
    question: str,
    connection: CustomConnection,
    chat_history: Any = None,
    system_prompt: str = "",
    temperature: float = 0.0,
    top_p: float = 1.0,
    max_new_tokens: int = 256,
    seed: int = -1,
    stream: bool = False,
) -> dict[str, Any]:
    """``{"answer", "usage"}``, the answer in pieces if ``stream``; every failure is a ChatError."""
    sampling = (temperature, top_p, max_new_tokens, seed)
    turn = Turn(question, chat_history, system_prompt, *sampling)
    return turn.take(connection, partial(ChatError, target=ErrorTarget.TOOL), stream=stream)
