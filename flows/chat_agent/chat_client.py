"""A chat client of Agent Framework over the chat flow's own scoring client, and an agent on it.

Agent Framework's clients speak OpenAI's contracts; this one speaks each contract that the flow
speaks, with the same messages, window, settings and errors. ``requests`` blocks, so a thread waits.
"""

from __future__ import annotations

import asyncio
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

from flows.chat.scoring_client import Endpoint, EndpointError, Generation, Settings
from flows.chat.scoring_client.conversation import Window, build_messages
from flows.chat.scoring_client.errors import InputError

_END: Any = object()
# Fields that the scoring contracts have no place for: refused, never dropped.
_NOT_SENT = [
    "tools",
    "response_format",
    "stop",
    "logit_bias",
    "frequency_penalty",
    "presence_penalty",
]
_USAGE = {"input_token_count": "prompt_tokens", "output_token_count": "completion_tokens"}


class ScoringChatClient(BaseChatClient):  # type: ignore[misc]
    """A chat client of a connection, whose keys are ``values`` (connections/README.md).

    Raises:
        ConfigurationError: naming the first key that is missing or wrong.
    """

    OTEL_PROVIDER_NAME = "finetune-phi"

    def __init__(self, values: Mapping[str, str]) -> None:
        """Check the connection."""
        super().__init__()
        self._endpoint = Endpoint(Settings.from_values(values))

    def _inner_get_response(
        self, *, messages: Any, stream: bool = False, options: Any, **_: Any
    ) -> Any:
        """One answer as a whole or, streamed, as updates of text."""
        if not stream:
            return self._whole(messages, options)
        return ResponseStream(self._pieces(messages, options), finalizer=ChatResponse.from_updates)

    async def _whole(self, messages: Any, options: Any) -> ChatResponse:
        def ask() -> Any:
            return self._endpoint.complete(*self._asked(messages, options))

        try:
            reply = await asyncio.to_thread(ask)
        except EndpointError as error:
            raise ChatClientException(f"{type(error).__name__}: {error}") from error
        usage = {name: reply.usage[key] for name, key in _USAGE.items() if key in reply.usage}
        return ChatResponse(messages=[Message("assistant", [reply.text])], usage_details=usage)

    async def _pieces(self, messages: Any, options: Any) -> AsyncIterator[ChatResponseUpdate]:
        try:
            asked = await asyncio.to_thread(self._asked, messages, options)
            pieces = self._endpoint.stream(*asked)
            while (piece := await asyncio.to_thread(next, pieces, _END)) is not _END:
                yield ChatResponseUpdate(contents=[Content.from_text(piece)], role="assistant")
        except EndpointError as error:
            raise ChatClientException(f"{type(error).__name__}: {error}") from error

    def _asked(
        self, messages: Sequence[Message], options: Mapping[str, Any]
    ) -> tuple[Any, Generation]:
        """The messages that fit the window, and how to generate; defaults are the flow's."""
        dropped = [name for name in _NOT_SENT if options.get(name)]
        dropped += [part.type for m in messages for part in m.contents if part.type != "text"]
        if dropped:
            names = ", ".join(dict.fromkeys(dropped))
            raise InputError(
                "the endpoint takes text alone", f"the request's {names}", "leave it out"
            )
        chosen = {name: value for name, value in options.items() if value is not None}
        defaults = {"temperature": 0.0, "top_p": 1.0, "max_tokens": 256, "seed": -1}
        generation = Generation(*(chosen.get(name, value) for name, value in defaults.items()))
        settings = self._endpoint.settings
        counter = self._endpoint.count_tokens if settings.tokenizer else None
        window = Window(settings.context_window, generation.max_new_tokens, counter)
        system = [m.text for m in messages if m.role == "system"] + [chosen.get("instructions", "")]
        said = [m for m in messages if m.role != "system"]
        turns: list[dict[str, Any]] = []
        for message in said[:-1]:
            if message.role == "user":
                turns.append({"inputs": {"question": message.text}, "outputs": {"answer": None}})
            elif turns:
                turns[-1]["outputs"]["answer"] = message.text
        question, text = said[-1].text if said else "", "\n".join(filter(None, system))
        asked = build_messages(question, turns, text, window, system_role=settings.system_role)
        return asked, generation


def chat_agent(values: Mapping[str, str], instructions: str = "") -> Agent:
    """The chat flow's twin: one model, a system text, and the turns of a session."""
    client = ScoringChatClient(values)
    return Agent(
        client, instructions or None, id="chat", name="chat", description="The tuned model"
    )
