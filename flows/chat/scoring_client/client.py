"""The client: messages in, answer out, whatever the endpoint's contract."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

from .contracts import CONTRACTS, Generation, Message
from .dialect import dialect_of
from .errors import EndpointError
from .reply import Reply, bad_shape, contract_of
from .settings import Settings
from .streaming import stream_reply
from .transport import post


@dataclass(frozen=True)
class TokenCount:
    """Tokens of a prompt, template included, and the server's context window where it tells."""

    count: int
    limit: int | None = None


@dataclass(frozen=True)
class Endpoint:
    """A scoring endpoint behind one set of settings; safe to share between threads.

    Every method raises :class:`~.errors.EndpointError` or one of its subclasses, nothing else.
    """

    settings: Settings

    def complete(self, messages: list[Message], generation: Generation | None = None) -> Reply:
        """The answer to ``messages``, whole."""
        dialect, generation = dialect_of(self.settings), generation or Generation()
        settings = dialect.apply(self.settings)
        try:
            return self._complete(messages, generation, settings)
        except EndpointError as error:
            other = dialect.alternative(settings, error)
            if other is None:
                raise
            refusal = error
        try:
            return self._complete(messages, generation, other)
        except EndpointError:
            if other.contract == settings.contract:
                raise
            dialect.settle()
            raise refusal from None  # not another contract: the first words are the right ones

    def _complete(
        self, messages: list[Message], generation: Generation, settings: Settings
    ) -> Reply:
        """Ask once, and remember what the endpoint takes."""
        make_body, parse = CONTRACTS[settings.contract]
        body, dialect = make_body(messages, generation, settings), dialect_of(settings)
        with post(settings, settings.endpoint, body, settings.timeout) as answer:
            value = answer.json()
            answered = contract_of(value)
            if settings.auto and settings.contract == "score" and answered in ("mlflow", "openai"):
                dialect.tell(settings, f"answers as contract {answered} does, and is read so")
                parse = CONTRACTS[answered][1]
            reply = parse(value, body, settings)
        dialect.answered(settings)
        return reply

    def stream(
        self, messages: list[Message], generation: Generation | None = None
    ) -> Generator[str, None, Reply]:
        """The answer piece by piece; the generator returns the whole :class:`Reply`.

        Contracts A and B do not stream, and some servers of contract C neither: their answer comes
        as one piece. Nothing is tried again once the first byte of a stream is here.
        """
        if self.settings.contract != "openai":
            reply = self.complete(messages, generation)
            yield reply.text
            return reply
        make_body, parse = CONTRACTS["openai"]
        body = make_body(messages, generation or Generation(), self.settings) | {"stream": True}
        with post(self.settings, self.settings.endpoint, body, self.settings.timeout) as answer:
            if answer.is_event_stream:
                return (yield from stream_reply(answer.pieces(), self.settings))
            reply = parse(answer.json(), body, self.settings)
        yield reply.text
        return reply

    def count_tokens(self, messages: list[Message]) -> TokenCount:
        """Count ``messages`` by the connection's ``tokenizer``, asked in vLLM's shape.

        https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html#tokenizer-api
        """
        settings = replace(self.settings, endpoint=self.settings.tokenizer)
        body: dict[str, Any] = {"messages": messages}
        if settings.model:
            body["model"] = settings.model
        # Counting is quick or it is broken.
        with post(settings, settings.endpoint, body, min(settings.timeout, 10.0)) as answer:
            value = answer.json()
            counts = value if isinstance(value, dict) else {}
            count, limit = counts.get("count"), counts.get("max_model_len")
            if not isinstance(count, int):
                raise bad_shape(value, "an object with 'count' (the tokenizer's reply)", settings)
        return TokenCount(count, limit if isinstance(limit, int) and limit > 0 else None)
