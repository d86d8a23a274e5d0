"""The check of a line's inputs: promptflow checks little, and turns null into the text "None".

Each function raises an :class:`InputError` for a value that is of another type.
"""

from __future__ import annotations

import math
from typing import Any


class InputError(ValueError):
    """The line cannot be scored; the text is one line for the user."""


def read_text(name: str, value: object) -> str:
    """``value``, which must be text."""
    if not isinstance(value, str):
        raise InputError(f"{name} is {_kind(value)}, not text. Fix: map it to a column of text")
    return value


def read_ground_truth(value: object) -> str:
    """The ground truth; empty where it is blank, null, or what promptflow makes of null."""
    text = "" if value is None else read_text("ground_truth", value)
    return "" if text.strip() in {"", "None"} else text


def read_facts(value: object) -> list[str]:
    """The facts, none for null; a blank one is refused, for every answer holds nothing."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise InputError(f'facts is {_kind(value)}, not a list. Fix: give ["9 months"], or []')
    for fact in value:
        if not isinstance(fact, str) or not fact.strip():
            raise InputError(f"facts holds {fact!r:.60}. Fix: give each fact as text")
    return value


def read_flag(name: str, value: object) -> bool | None:
    """``value``, true or false; None for null, and for "", which is a flow's default."""
    if value is None or value == "":
        return None
    if not isinstance(value, bool):
        raise InputError(f"{name} is {_kind(value)}. Fix: give true or false")
    return value


def read_usage(value: object) -> dict[str, float | None]:
    """The three of a ``usage`` object by the names of their metrics: null or a number from 0 up."""
    usage = {} if value is None else value
    if not isinstance(usage, dict):
        raise InputError(f"usage is {_kind(value)}, not an object. Fix: map it to the chat's usage")
    tokens = {name: _number(usage, name) for name in ("prompt_tokens", "completion_tokens")}
    return {"latency_seconds": _number(usage, "seconds"), **tokens}


def _number(usage: dict[str, Any], name: str) -> float | None:
    value = usage.get(name)
    if value is None:
        return None
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0:
        raise InputError(f"usage.{name} is {value!r:.60}. Fix: give a number from 0 up, or null")
    return float(value) if name == "seconds" else value


def _kind(value: object) -> str:
    return "null" if value is None else f"of type {type(value).__name__}"
