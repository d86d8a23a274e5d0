"""The client: messages in, answer out, whatever the endpoint's contract."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import Any

from .contracts import CONTRACTS, Generation, Message
from .dialect import dialect_of, forget
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
            return self._ask(messages, generation, settings)
        except EndpointError as error:
            refusal = error
        with closing(dialect.others(settings, refusal)) as others:
            for other in others:
                # Not this contract either: the first words are the right ones.
                with suppress(EndpointError):
                    return self._ask(messages, generation, other)
        raise refusal from None

    def _ask(self, messages: list[Message], generation: Generation, settings: Settings) -> Reply:
        """Ask by one contract, with the other name of the longest answer if it wants that."""
        dialect = dialect_of(self.settings)
        try:
            reply = self._complete(messages, generation, settings)
        except EndpointError as error:
            if (other := dialect.other_limit(settings, error)) is None:
                raise
            return self._complete(messages, generation, other)
        if not _cut_short(reply, generation, settings):
            return reply
        # It reads another name than the one that was sent, or has a limit of its own.
        with suppress(EndpointError):
            other = replace(settings, answer_limit="max_tokens")
            longer = self._complete(messages, generation, other)
            if _tokens(longer) > _tokens(reply):
                dialect.learn_limit(settings, "max_tokens")
                return longer
        dialect.learn_limit(settings, "max_new_tokens")
        return reply

    def _complete(
        self, messages: list[Message], generation: Generation, settings: Settings
    ) -> Reply:
        """Ask once, and remember what the endpoint takes."""
        make_body, parse = CONTRACTS[settings.contract]
        body = make_body(messages, generation, settings)
        with post(settings, settings.endpoint, body, settings.timeout) as answer:
            value = answer.json()
            shape = contract_of(value)
            read_so = settings.auto and settings.contract == "score" and shape in CONTRACTS
            reply = (CONTRACTS[shape][1] if read_so else parse)(value, body, settings)
        dialect_of(self.settings).answered(settings, shape if read_so else "")
        return reply

    def learnt(self) -> dict[str, str]:
        """The connection's keys, with their values, that answers have shown to be right."""
        return dialect_of(self.settings).learnt(self.settings)

    def forget(self) -> None:
        """Find everything out anew: what answered 404 may not have been there yet."""
        forget(self.settings)

    def stream(
        self, messages: list[Message], generation: Generation | None = None
    ) -> Generator[str, None, Reply]:
        """The answer piece by piece; the generator returns the whole :class:`Reply`.

        Contracts A and B do not stream, and some servers of contract C neither: their answer comes
        as one piece. Nothing is tried again once the first byte of a stream is here.
        """
        settings = dialect_of(self.settings).apply(self.settings)
        if settings.contract != "openai":
            reply = self.complete(messages, generation)
            yield reply.text
            return reply
        make_body, parse = CONTRACTS["openai"]
        body = make_body(messages, generation or Generation(), settings) | {"stream": True}
        with post(settings, settings.endpoint, body, settings.timeout) as answer:
            if answer.is_event_stream:
                return (yield from stream_reply(answer.pieces(), settings))
            reply = parse(answer.json(), body, settings)
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


def _cut_short(reply: Reply, generation: Generation, settings: Settings) -> bool:
    """Tell whether an answer ended at fewer tokens than were asked for, by a name left open."""
    open_ = settings.answer_limit == "auto" and settings.contract == "score"
    return (
        open_ and reply.finish_reason == "length" and 0 < _tokens(reply) < generation.max_new_tokens
    )


def _tokens(reply: Reply) -> int:
    return reply.usage.get("completion_tokens", 0)
