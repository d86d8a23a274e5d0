"""The rules of a row: user and assistant in turn, calls answered, and an answer to learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from setup.data.rows import is_empty

from .adapters import BESIDE_TURNS

ROLES = ("system", "user", "assistant", "tool")
# What else of a turn changes what other trainers learn from it.
_READ_OF_TURN = {"role", "content", "weight", "tool_calls"}
_READ_OF_TOOL = {*_READ_OF_TURN, "tool_call_id", "name"}
_NOTHING: tuple[Any, ...] = (None, "", [], {})
_PLAIN = 2  # a turn of nothing but role and content
_FOLLOWERS = {"user": ("assistant",), "assistant": ("user",), "tool": ("tool", "assistant")}


def find_unread(row: dict[str, Any]) -> set[str]:
    """Name what a clean row holds that others learn from, or forbid learning by, unread here."""
    unread = {
        f"{name} in a turn"
        for turn in row["messages"]
        if len(turn) > 2
        for name, value in turn.items()
        if name not in _known(turn) and value not in _NOTHING
    }
    for name in BESIDE_TURNS:
        if name in row and row[name] not in _NOTHING:
            unread.add(f"{name} beside messages")
    return unread


def _known(turn: dict[str, Any]) -> set[str]:
    """The fields that are read of a turn; the id of a call only where a tool answers."""
    return _READ_OF_TOOL if turn["role"] == "tool" else _READ_OF_TURN


def uses_tools(row: dict[str, Any]) -> bool:
    """Tell whether a clean row offers, calls or answers for tools."""
    if row.get("tools"):
        return True
    turns = row["messages"]
    return any(len(turn) > _PLAIN for turn in turns) and any(
        turn.get("tool_calls") or turn["role"] == "tool" for turn in turns
    )


def find_problem(row: Any, required: Sequence[str] = ("messages",)) -> str:
    """Return the reason why a row is not a conversation to learn from, or "" when it is one."""
    if not isinstance(row, dict):
        return f"the row is {kind_of(row)}, not an object"
    missing = next((column for column in required if row.get(column) is None), "")
    if missing:
        return f"column {missing} is missing"
    if not isinstance(row.get("prompt", ""), str | None):
        return f"column prompt is {kind_of(row['prompt'])}, not a string"
    messages = row["messages"]
    if not isinstance(messages, list) or not messages:
        return "messages is not a list of turns"
    return "" if _is_usual(messages) else _turns_problem(messages)


def _is_usual(turns: list[Any]) -> bool:
    """Tell whether all turns are as nearly all are: there is nothing to look at more closely."""
    expected, role = "user", None
    for turn in turns:
        if type(turn) is not dict or len(turn) != 2:
            return False
        role, content = turn.get("role"), turn.get("content")
        if type(content) is not str or not ("!" <= content[:1] <= "~" or content[:1].isalnum()):
            return False
        if role == expected:
            expected = "assistant" if role == "user" else "user"
        elif role != "system" or turn is not turns[0]:
            return False
    return role == "assistant"


def _turns_problem(turns: list[Any]) -> str:
    expected: tuple[str, ...] = ("user",)
    open_calls = set[str]()
    for number, turn in enumerate(turns, 1):
        if problem := _turn_problem(turn, number):
            return problem
        role = turn["role"]
        if role == "system" and number == 1:
            continue
        if role not in expected:
            return f"turn {number} is {role}, expected {' or '.join(expected)}"
        if (
            role == "tool"
            and open_calls
            and turn.get("tool_call_id", None) not in {None, *open_calls}
        ):
            return f"turn {number} answers the call {turn['tool_call_id']!r}, which nobody made"
        if calls := turn.get("tool_calls"):
            expected, open_calls = ("tool",), {call["id"] for call in calls if call.get("id")}
        else:
            expected = _FOLLOWERS[role]
    if turns[-1]["role"] != "assistant":
        return "the last turn is not the assistant's"
    if all(turn.get("weight") == 0 for turn in turns if turn["role"] == "assistant"):
        return "every answer has weight 0, so there is nothing to learn"
    return ""


def _turn_problem(turn: Any, number: int) -> str:
    if not isinstance(turn, dict):
        return f"turn {number} is {kind_of(turn)}, not an object"
    role = turn.get("role")
    if role not in ROLES:
        return f"turn {number} has the unknown role {role!r}"
    weight = turn.get("weight")
    if weight is not None and not _is_weight(weight):
        return f"turn {number} has the weight {weight!r}, not 0 or 1"
    if weight and role != "assistant":
        return f"turn {number} is the {role}'s and has weight 1, but only answers are learnt"
    return _content_problem(turn, number)


def _content_problem(turn: dict[str, Any], number: int) -> str:
    content, calls = turn.get("content"), turn.get("tool_calls")
    if not isinstance(content, str):
        return f"turn {number} has {kind_of(content)} as content, not a string"
    if calls:
        return _calls_problem(calls, number, turn["role"])
    return f"turn {number} is empty" if is_empty(content) and turn["role"] != "tool" else ""


def _calls_problem(calls: Any, number: int, role: str) -> str:
    if role != "assistant":
        return f"turn {number} is the {role}'s and calls a tool, which only the assistant does"
    functions = [
        call.get("function") if isinstance(call, dict) else None
        for call in (calls if isinstance(calls, list) else [None])
    ]
    named = [isinstance(function, dict) and function.get("name") for function in functions]
    return "" if all(named) else f"turn {number} calls a tool without a name"


def _is_weight(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value in (0, 1)


def kind_of(value: Any) -> str:
    """The kind of a value of JSON, with its article."""
    names = {dict: "an object", list: "a list", str: "a string", type(None): "null", int: "an int"}
    return names.get(type(value), f"a {type(value).__name__}")
