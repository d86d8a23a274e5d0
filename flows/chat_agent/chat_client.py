"""A chat client of Agent Framework over the chat flow's own turn; ``requests`` blocks a thread."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import agent_framework as af
import platformdirs
from agent_framework.exceptions import ChatClientException

from flows.chat.scoring_client import ConfigurationError, EndpointError, Settings
from flows.chat.scoring_client.errors import InputError
from flows.chat.scoring_client.turn import Turn

_DEFAULTS: dict[str, Any] = {"temperature": 0.0, "top_p": 1.0, "max_tokens": 256, "seed": -1}
# The defaults are the flow's. For anything else the contracts have no place: refused, not dropped.
_TAKEN = {*_DEFAULTS, "instructions", "model", "metadata", "store", "user", "tool_choice"}
_TEXT = {"format": {"type": "text"}}  # of the field text: asks for nothing else
_COUNTS = {"prompt_tokens": "input_token_count", "completion_tokens": "output_token_count"}


class ScoringChatClient(af.BaseChatClient):  # type: ignore[misc]
    """A chat client of the connection ``name``; ChatClientException where that cannot be used."""

    def __init__(self, name: str) -> None:
        super().__init__()
        try:
            self._connection = SimpleNamespace(name=name, configs=_values(name), secrets={})
            Settings.from_connection(self._connection)
        except EndpointError as error:
            raise _report(error) from error

    def _inner_get_response(self, messages: Any, options: Any, stream: Any = None, **_: Any) -> Any:
        if not stream:
            return self._whole(messages, options)
        pieces, finalizer = self._pieces(messages, options), af.ChatResponse.from_updates
        return af.ResponseStream(pieces, finalizer=finalizer)

    async def _whole(self, messages: Any, options: Any) -> af.ChatResponse:
        turn = _turn(messages, options)
        taken = await asyncio.to_thread(turn.take, self._connection, _report, stream=False)
        usage = {_COUNTS.get(n, n): v for n, v in taken["usage"].items() if v is not None}
        answer = af.Message("assistant", [taken["answer"]])
        return af.ChatResponse(messages=answer, usage_details=usage)

    async def _pieces(self, messages: Any, options: Any) -> AsyncIterator[Any]:
        turn = _turn(messages, options)
        taken = await asyncio.to_thread(turn.take, self._connection, _report, stream=True)
        while (piece := await asyncio.to_thread(next, taken["answer"], None)) is not None:
            yield af.ChatResponseUpdate(contents=[af.Content.from_text(piece)], role="assistant")


def _report(error: EndpointError) -> ChatClientException:
    return ChatClientException(f"{type(error).__name__}: {error}", log_level=40)


def _turn(messages: list[af.Message], options: Mapping[str, Any]) -> Turn:
    """The last message as the question, what was said before it, and how it is to be answered."""
    refused = [n for n, value in options.items() if value and value != _TEXT and n not in _TAKEN]
    refused += [part.type for m in messages for part in m.contents if part.type != "text"]
    if refused:
        where = f"the request's {', '.join(dict.fromkeys(refused))}"
        raise _report(InputError("the endpoint takes text alone", where, "leave it out"))
    system = [m.text for m in messages if m.role not in ("user", "assistant")]
    said = [m for m in messages if m.role in ("user", "assistant")]
    turns = [
        {"inputs": {"question": m.text}, "outputs": {"answer": n.text if n.role != "user" else ""}}
        for m, n in zip(said, said[1:])
        if m.role == "user"
    ]
    text = "\n".join(filter(None, [*system, options.get("instructions")]))
    sampling = [default if (v := options.get(n)) is None else v for n, default in _DEFAULTS.items()]
    return Turn("".join(m.text for m in said[-1:]), turns, text, *sampling)


def _values(name: str) -> dict[str, str]:
    """The keys of a connection: variables as ``PHI_KEY``, else as ``setup connect`` keeps it."""
    home = os.environ.get("FINETUNE_PHI_HOME") or platformdirs.user_state_path("finetune-phi")
    file, prefix = Path(home) / "connections.json", re.sub(r"\W", "_", name).upper() + "_"
    entry = _read(file).get(name, {"configs": {}, "secrets": {}})
    secrets = {k: _read(p.get("file", "")).get(p.get("field")) for k, p in entry["secrets"].items()}
    told = {k[len(prefix) :].lower(): v for k, v in os.environ.items() if k.startswith(prefix)}
    values = {**entry["configs"], **secrets, **told}
    if lost := [prefix + key.upper() for key in secrets if not values[key]]:
        what = f"a secret of connection {name} is where this environment cannot read it"
        raise ConfigurationError(what, str(file), f"set {', '.join(lost)}")
    if not values:
        fix = f"python -m setup connect, or set {prefix}ENDPOINT and {prefix}KEY"
        raise ConfigurationError(f"there is no connection {name}", str(file), fix)
    return values


def _read(file: Path | str) -> dict[str, Any]:
    try:
        return dict(json.loads(Path(file).read_text("utf-8")))
    except (OSError, ValueError):
        return {}
