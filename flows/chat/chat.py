"""The chat node: a question and its history in, the endpoint's answer out.

No ``from __future__ import annotations`` here: promptflow reads the annotations as types.
"""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from promptflow.connections import CustomConnection
from promptflow.core import tool
from promptflow.exceptions import ErrorTarget, UserErrorException

# promptflow loads a flow's modules from the flow folder, others as flows.chat.*
if TYPE_CHECKING or __package__:
    from .conversation import Window, build_messages
    from .scoring_client import Endpoint, EndpointError, Generation, Settings
    from .usage import measured
else:
    from conversation import Window, build_messages
    from scoring_client import Endpoint, EndpointError, Generation, Settings
    from usage import measured


class ChatError(UserErrorException):  # type: ignore[misc]
    """One of the endpoint's errors as promptflow reports it: its line, and its class by name.

    promptflow prints any other exception as "Execution failure in 'chat': (Class) text"; one of its
    own it prints as it is. (Its log shows the executor's stack before that last line; the logger is
    private to it.)
    """

    def __init__(self, error: EndpointError) -> None:
        """Take over the line of ``error``."""
        super().__init__(message=str(error), target=ErrorTarget.TOOL)
        self._kind = type(error).__name__

    def __str__(self) -> str:
        """The class and the line: an error in the middle of a stream is printed by this alone."""
        return f"{self._kind}: {self.message}"

    @property
    def additional_info(self) -> dict[str, dict[str, str]]:
        """The place where ``pf`` looks for the class to name in front of the line."""
        return {"ToolExecutionErrorDetails": {"type": self._kind, "message": self.message}}


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
) -> Any:
    """The answer as text with its usage, or as an iterator of pieces when ``stream`` is set.

    Raises:
        ChatError: for every failure, with one line for the user.
    """
    try:
        generation = Generation(temperature, top_p, max_new_tokens, seed)
        endpoint = Endpoint(Settings.from_connection(connection))
        settings = endpoint.settings
        counter = endpoint.count_tokens if settings.tokenizer else None
        messages = build_messages(
            question,
            chat_history,
            system_prompt,
            Window(settings.context_window, max_new_tokens, counter),
            system_role=settings.system_role,
        )
        if not stream:
            started = time.perf_counter()
            reply = endpoint.complete(messages, generation)
            return measured(reply.text, reply.usage, time.perf_counter() - started)
        pieces = endpoint.stream(messages, generation)
        # What fails before the first piece fails in the node, where promptflow can report it.
        return _relay(next(pieces), pieces)
    except EndpointError as error:
        raise ChatError(error) from None


def _relay(first: str, rest: Iterator[str]) -> Iterator[str]:
    try:
        yield first
        yield from rest
    except EndpointError as error:
        raise ChatError(error) from None
