"""Tools in a conversation, and what a chat template gets of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

# "role" and "content"; an answer may have "weight" 0: it is context, read but not learnt.
Message = dict[str, Any]
_OF_A_TOOL = ("tool_call_id", "name")


class Conversation(list[Message]):
    """The turns of a conversation, the tools that it offers, and if it is there once more."""

    def __init__(
        self, turns: Sequence[Message], tools: Sequence[Any] = (), is_copy: bool = False
    ) -> None:
        super().__init__(turns)
        self.tools, self.is_copy = list(tools), is_copy


def is_copy(turns: Sequence[Message]) -> bool:
    """Tell whether a conversation is there once more, by the weight of its source."""
    return isinstance(turns, Conversation) and turns.is_copy


def tools_of(turns: Sequence[Message]) -> list[Any]:
    """The tools that a conversation offers."""
    return turns.tools if isinstance(turns, Conversation) else []


def uses_tools(turns: Sequence[Message]) -> bool:
    """Tell whether a conversation offers, calls or answers for tools."""
    return bool(tools_of(turns)) or any(
        turn["role"] == "tool" or turn.get("tool_calls") for turn in turns
    )


def read_turn(message: Message) -> Message:
    """The fields of a turn that are about tools, beside its text."""
    if message["role"] == "tool":
        return {name: message[name] for name in _OF_A_TOOL if message.get(name)}
    calls = message.get("tool_calls")
    return {"tool_calls": calls} if calls and message["role"] == "assistant" else {}


def for_template(turns: Sequence[Message]) -> list[Message]:
    """The turns as chat templates take them: no weight, arguments as objects, answers by name."""
    names: dict[Any, str] = {}
    made = []
    for turn in turns:
        plain = {"role": turn["role"], "content": turn["content"]}
        if calls := turn.get("tool_calls"):
            plain["tool_calls"] = [call_of(call) for call in calls]
            names = {call.get("id"): call["function"]["name"] for call in calls}
        elif turn["role"] == "tool":
            plain |= {name: turn[name] for name in _OF_A_TOOL if name in turn}
            only = next(iter(names.values())) if len(names) == 1 else None
            if name := turn.get("name") or names.get(turn.get("tool_call_id"), only):
                plain["name"] = name
        made.append(plain)
    return made


def call_of(call: Message) -> Message:
    """A call of a tool with its arguments as an object."""
    function = call["function"]
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        with suppress(ValueError):
            arguments = json.loads(arguments)
    arguments = {} if arguments is None else arguments
    return {"type": "function", **call, "function": {**function, "arguments": arguments}}
