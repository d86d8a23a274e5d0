"""Turns as other tools write them, as ours: `role`, `content`, and calls of tools.

Nothing that a turn holds is dropped without a word: what the linter does not know it names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import orjson

Turn = dict[str, Any]

# Speakers as chats of ShareGPT and its kin name them, in small letters.
_SPEAKERS = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "system": "system",
    "function_call": "calls",
    "tool_call": "calls",
    "observation": "tool",
    "function_response": "tool",
    "tool_response": "tool",
    "tool": "tool",
    "function": "tool",
}
_SPEAKER_KEYS, _SAID_KEYS = ("from", "role"), ("value", "content")
_THOUGHTS = ("reasoning", "thinking", "thought")
_TEXTS = ("text", "input_text", "output_text")
_MEDIA = ("image", "audio", "video", "file")


class UnusableError(ValueError):
    """A row no conversation can be made of; the message says why."""


def parsed(value: Any) -> Any:
    """The list or object in a text of JSON; any other value as it is."""
    if not isinstance(value, str) or value.lstrip()[:1] not in {"[", "{"}:
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value


def as_list(value: Any) -> Any:
    """Turns as a list of objects, from any of the forms in which tables keep them.

    A text column has JSON; Arrow's list of structs may be a list a field, and turns may be texts.
    """
    value = parsed(value)
    if isinstance(value, list):
        if value and isinstance(value[0], str):
            turns = [parsed(turn) for turn in value]
            return turns if all(isinstance(turn, dict) for turn in turns) else value
        return value
    if isinstance(value, dict):
        lists = {name: values for name, values in value.items() if isinstance(values, list)}
        lengths = {len(values) for values in lists.values()}
        if _has_keys(lists) and len(lengths) == 1:
            turns_of_fields = zip(*lists.values(), strict=True)
            return [dict(zip(lists, turn, strict=True)) for turn in turns_of_fields]
    return value


def is_turns(value: Any) -> bool:
    """Tell whether it is a list of turns by its first."""
    turns = as_list(value)
    first = turns[0] if isinstance(turns, list) and turns else None
    return isinstance(first, dict) and _has_keys(first)


def speaks_sharegpt(value: Any) -> bool:
    """Tell whether the first of a list of turns has ShareGPT's own keys."""
    turns = as_list(value)
    first = turns[0] if isinstance(turns, list) and turns else None
    return isinstance(first, dict) and {"from", "value"} <= first.keys()


def openai_turns(value: Any) -> Any:
    """Messages of OpenAI: texts in parts joined, calls of functions as calls of tools.

    Roles are as they are written; what is no list of turns is the linter's to name.

    Raises:
        UnusableError: A part is no text.
    """
    turns = as_list(value)
    if not isinstance(turns, list):
        return turns
    return [
        turn if _is_plain(turn) else _openai_turn(turn, number)
        for number, turn in enumerate(turns, 1)
    ]


def sharegpt_turns(value: Any) -> Any:
    """Turns of ShareGPT and its kin as messages, whatever they call the speakers.

    Raises:
        UnusableError: It is no list of turns, or a turn calls no tool although it says so.
    """
    turns = as_list(value)
    if not isinstance(turns, list):
        raise UnusableError("it holds no list of turns")
    return [_sharegpt_turn(turn, number) for number, turn in enumerate(turns, 1)]


def tool_list(value: Any) -> list[Any]:
    """The tools that a conversation offers, as OpenAI wraps them.

    Raises:
        UnusableError: They are no list of functions with a name.
    """
    tools = parsed(value)
    tools = [tools] if isinstance(tools, dict) else tools
    if isinstance(tools, list):
        tools = [parsed(tool) for tool in tools]
        wrapped = [
            tool if "function" in tool else {"type": "function", "function": tool}
            for tool in tools
            if isinstance(tool, dict)
        ]
        functions = [parsed(tool["function"]) for tool in wrapped]
        if len(wrapped) == len(tools) and all(map(_is_named, functions)):
            return wrapped
    raise UnusableError("its tools are no list of functions with a name")


def _is_named(function: Any) -> bool:
    return isinstance(function, dict) and isinstance(function.get("name"), str)


def _has_keys(turn: Any) -> bool:
    return any(name in turn for name in _SPEAKER_KEYS) and any(name in turn for name in _SAID_KEYS)


def are_plain(turns: Any) -> bool:
    """Tell whether all turns are as they are wanted, with nothing to convert: nearly all are."""
    return type(turns) is list and all(map(_is_plain, turns))


def _is_plain(turn: Any) -> bool:
    if type(turn) is not dict or len(turn) != 2 or turn.get("role") == "function":
        return False
    return type(turn.get("content")) is str


def _openai_turn(turn: Any, number: int) -> Any:
    if not isinstance(turn, dict):
        return turn
    turn = dict(turn)
    if isinstance(turn.get("content"), list):
        turn |= _joined(turn["content"], number)
    if isinstance(turn.get("tool_calls"), str):
        turn["tool_calls"] = parsed(turn["tool_calls"])
    if call := turn.pop("function_call", None):
        turn["tool_calls"] = [*(turn.get("tool_calls") or []), _call(call)]
    if turn.get("role") == "function":
        turn["role"] = "tool"
    if turn.get("tool_calls") and turn.get("content") is None:
        turn["content"] = ""
    if "loss_weight" in turn and "weight" not in turn:
        turn["weight"] = turn.pop("loss_weight")
    return {name: value for name, value in turn.items() if value is not None or name == "content"}


def _joined(parts: list[Any], number: int) -> Turn:
    """The parts of a content: the text joined, as it is when a model is served, and the rest.

    Empty where it is no list of parts: the linter names it.
    """
    texts, made = list[str](), Turn()
    for part in parts:
        if not isinstance(part, dict):
            return {}
        kind, said = part.get("type", "text"), part.get("text", part.get("value"))
        if kind in _THOUGHTS and isinstance(said, str):
            made["reasoning_content"] = made.get("reasoning_content", "") + said
        elif kind == "tool_call":
            made.setdefault("tool_calls", []).append(_call(said))
        elif kind in _TEXTS and isinstance(said, str):
            texts.append(said)
        elif kind in _TEXTS:
            return {}
        else:
            raise UnusableError(
                f"turn {number} has {_part(str(kind))}, and only text is trained on"
            )
    return made | {"content": "".join(texts)}


def _part(kind: str) -> str:
    medium = next((name for name in _MEDIA if name in kind), "")
    named = f" ({kind})" if medium and kind != medium else ""
    if medium:
        return f"{'an' if medium[0] in 'aeiou' else 'a'} {medium} part{named}"
    return f"a part of type {kind[:40]!r}"


def _sharegpt_turn(turn: Any, number: int) -> Any:
    turn = parsed(turn)
    if not isinstance(turn, dict):
        return turn
    speaker = next((turn[name] for name in _SPEAKER_KEYS if turn.get(name) is not None), None)
    said = next((turn[name] for name in _SAID_KEYS if name in turn), None)
    known = {*_SPEAKER_KEYS, *_SAID_KEYS}
    more = {name: value for name, value in turn.items() if name not in known}
    role = _SPEAKERS.get(speaker.strip().lower(), speaker) if isinstance(speaker, str) else speaker
    if role == "calls":
        calls = parsed(said)
        role, said = "assistant", ""
        more["tool_calls"] = [
            _call(call) for call in (calls if isinstance(calls, list) else [calls])
        ]
        if not all(_is_named(call["function"]) for call in more["tool_calls"]):
            raise UnusableError(f"turn {number} says that it calls a tool, and names none")
    return _openai_turn({"role": role, "content": said, **more}, number)


def _call(call: Any) -> Turn:
    """A call of a function as OpenAI writes it."""
    call = parsed(call)
    if isinstance(call, dict) and "function" in call:
        return call
    return {"type": "function", "function": call}


def called_tools(turns: list[Turn]) -> Iterator[tuple[int, Any]]:
    """Every call of a tool, with the number of its turn."""
    for number, turn in enumerate(turns, 1):
        for call in turn.get("tool_calls") or []:
            yield number, call


def arguments_of(call: Turn) -> Any:
    """The arguments of a call as an object, where they are one or a text of one."""
    arguments = call["function"].get("arguments")
    if not isinstance(arguments, str):
        return {} if arguments is None else arguments
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments
