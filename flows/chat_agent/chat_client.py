"""A chat client of Agent Framework over the chat flow's own scoring client.

Agent Framework's clients speak OpenAI's contracts; this one speaks each contract that the flow
speaks, with the same messages, window, settings and errors. ``requests`` blocks, so a thread waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from agent_framework import (
    Agent,
    BaseChatClient,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    Message,
    ResponseStream,
)
from agent_framework.exceptions import ChatClientException

from flows.chat.conversation import Window, build_messages
from flows.chat.scoring_client import Endpoint, EndpointError, Generation, InputError, Settings

_END: Any = object()
# Fields of a request that the scoring contracts have no place for: refused, never dropped.
_NOT_SENT = (
    "tools",
    "response_format",
    "stop",
    "logit_bias",
    "frequency_penalty",
    "presence_penalty",
)


class ScoringChatClient(BaseChatClient):  # type: ignore[misc]
    """A chat client of a connection: ``values`` are its keys, as connections/README.md lists them.

    Raises:
        ConfigurationError: naming the first key that is missing or wrong.
    """

    OTEL_PROVIDER_NAME = "finetune-phi"

    def __init__(self, values: Mapping[str, str]) -> None:
        """Check the connection."""
        super().__init__()
        self._endpoint = Endpoint(Settings.from_values(values))

    def _inner_get_response(
        self,
        *,
        messages: Sequence[Message],
        stream: bool = False,
        options: Mapping[str, Any],
        **_: Any,
    ) -> Any:
        """One answer as a whole or, streamed, as updates of text."""
        if stream:
            pieces = self._pieces(messages, options)
            return ResponseStream(pieces, finalizer=ChatResponse.from_updates)
        return self._whole(messages, options)

    async def _whole(self, messages: Sequence[Message], options: Mapping[str, Any]) -> ChatResponse:
        started = time.perf_counter()
        try:
            reply = await asyncio.to_thread(
                lambda: self._endpoint.complete(*self._asked(messages, options))
            )
        except EndpointError as error:
            raise _as_chat_error(error) from error
        usage = {"input_token_count": "prompt_tokens", "output_token_count": "completion_tokens"}
        return ChatResponse(
            messages=[Message("assistant", [reply.text])],
            usage_details={
                name: reply.usage[key] for name, key in usage.items() if key in reply.usage
            },
            additional_properties={"seconds": round(time.perf_counter() - started, 4)},
        )

    async def _pieces(
        self, messages: Sequence[Message], options: Mapping[str, Any]
    ) -> AsyncIterator[ChatResponseUpdate]:
        try:
            asked = await asyncio.to_thread(self._asked, messages, options)
            pieces = self._endpoint.stream(*asked)
            while (piece := await asyncio.to_thread(next, pieces, _END)) is not _END:
                yield ChatResponseUpdate(contents=[Content.from_text(piece)], role="assistant")
        except EndpointError as error:
            raise _as_chat_error(error) from error

    def _asked(
        self, messages: Sequence[Message], options: Mapping[str, Any]
    ) -> tuple[Any, Generation]:
        """The messages that fit the window, and how to generate; defaults are the flow's."""
        _refuse(messages, options)
        settings = self._endpoint.settings
        chosen = {name: value for name, value in options.items() if value is not None}
        generation = Generation(
            chosen.get("temperature", 0.0),
            chosen.get("top_p", 1.0),
            chosen.get("max_tokens", 256),
            chosen.get("seed", -1),
        )
        counter = self._endpoint.count_tokens if settings.tokenizer else None
        window = Window(settings.context_window, generation.max_new_tokens, counter)
        system = [message.text for message in messages if message.role == "system"]
        system += [chosen["instructions"]] if chosen.get("instructions") else []
        said = [message for message in messages if message.role in {"user", "assistant"}]
        question = said[-1].text if said else ""
        history, role = _turns(said[:-1]), settings.system_role
        return build_messages(
            question, history, "\n".join(system), window, system_role=role
        ), generation


def _refuse(messages: Sequence[Message], options: Mapping[str, Any]) -> None:
    """Raise InputError for what the scoring contracts cannot carry."""
    unknown = [name for name in _NOT_SENT if options.get(name)]
    unknown += [message.role for message in messages if message.role == "tool"]
    unknown += [
        part.type for message in messages for part in message.contents if part.type != "text"
    ]
    if unknown:
        where = f"the request's {', '.join(dict.fromkeys(unknown))}"
        raise InputError("the endpoint takes text alone", where, "leave it out")


def _turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as the history of a chat flow: question and answer by turn."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "user":
            turns.append({"inputs": {"question": message.text}, "outputs": {"answer": None}})
        elif turns:
            turns[-1]["outputs"]["answer"] = message.text
    return turns


def _as_chat_error(error: EndpointError) -> ChatClientException:
    return ChatClientException(f"{type(error).__name__}: {error}")


def chat_agent(values: Mapping[str, str], instructions: str = "") -> Agent:
    """The chat flow's twin: one model, a system text, and the turns of a session."""
    client = ScoringChatClient(values)
    return Agent(
        client, instructions or None, id="chat", name="chat", description="The tuned model."
    )
