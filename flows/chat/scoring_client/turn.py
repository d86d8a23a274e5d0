"""One turn of a chat: a question and its history in, the endpoint's answer and its cost out."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .client import Endpoint
from .contracts import Generation, Message
from .conversation import Window, build_messages
from .errors import EndpointError
from .reply import Reply
from .settings import ConnectionLike, Settings
from .tracing.chat_span import ChatSpan

Report = Callable[[EndpointError], Exception]
"""Makes of an endpoint's error the exception that whoever runs the flow shows as its line."""


class NamedError:
    """An endpoint's error as promptflow reports it: a subclass is also one of its exceptions.

    promptflow prints any other exception as "Execution failure in 'chat': (Class) text"; one of its
    own it prints as it is. (Its log shows the executor's stack before that last line; the logger is
    private to it.)
    """

    message: str

    def __init__(self, error: EndpointError, **more: Any) -> None:
        """Take over the line of ``error``."""
        super().__init__(message=str(error), **more)  # type: ignore[call-arg]
        self._kind = type(error).__name__

    def __str__(self) -> str:
        """The class and the line: an error in the middle of a stream is printed by this alone."""
        return f"{self._kind}: {self.message}"

    @property
    def additional_info(self) -> dict[str, dict[str, str]]:
        """The place where ``pf`` looks for the class to name in front of the line."""
        return {"ToolExecutionErrorDetails": {"type": self._kind, "message": self.message}}


@dataclass(frozen=True)
class Turn:
    """A question, what was said before it, and how it is to be answered."""

    question: str
    chat_history: Any
    system_prompt: str
    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int

    def take(self, connection: ConnectionLike, report: Report, *, stream: bool) -> dict[str, Any]:
        """``{"answer": text, "usage": …}``, or the text as an iterator of pieces.

        ``usage`` is ``{"prompt_tokens", "completion_tokens", "seconds"}``, each null where nobody
        knows: of a stream all of them, for its end is not waited for.
        """
        with _reporting(report):
            generation = Generation(self.temperature, self.top_p, self.max_new_tokens, self.seed)
            settings = Settings.from_connection(connection)
            span = ChatSpan.start(settings, generation)
            with span.current():
                endpoint = Endpoint(settings)
                messages = self._messages(endpoint)
                span.asked(messages)
                if stream:
                    pieces = endpoint.stream(messages, generation)
                    # What fails before the first piece fails in the node, where it can be reported.
                    first = next(pieces)
                    return {"answer": _relay(first, pieces, report, span), "usage": _usage({})}
                started = time.perf_counter()
                reply = endpoint.complete(messages, generation)
                seconds = round(time.perf_counter() - started, 4)
            span.answered(reply)
            usage = _usage({**reply.usage, "seconds": seconds})
            return {"answer": _without_half_characters(reply.text), "usage": usage}

    def _messages(self, endpoint: Endpoint) -> list[Message]:
        settings = endpoint.settings
        counter = endpoint.count_tokens if settings.tokenizer else None
        window = Window(settings.context_window, self.max_new_tokens, counter)
        return build_messages(
            self.question,
            self.chat_history,
            self.system_prompt,
            window,
            system_role=settings.system_role,
        )


@contextmanager
def _reporting(report: Report) -> Iterator[None]:
    try:
        yield
    except EndpointError as error:
        raise report(error) from None


def _relay(
    first: str, rest: Generator[str, None, Reply], report: Report, span: ChatSpan
) -> Iterator[str]:
    with _reporting(report), span.failing():
        yield first
        reply = yield from rest
    span.answered(reply)


def _usage(counts: dict[str, float]) -> dict[str, float | None]:
    return {name: counts.get(name) for name in ("prompt_tokens", "completion_tokens", "seconds")}


def _without_half_characters(text: str) -> str:
    """``text`` with U+FFFD for each unpaired surrogate, which JSON can carry and no file takes."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
