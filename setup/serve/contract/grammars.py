"""Grammars that hold an answer to a JSON schema, and those that no engine may be given.

llama.cpp's own converter drops what it does not know of a schema (``not``, ``uniqueItems``, a
pattern with look-ahead), so the schema goes to llguidance, which is built into the engine and
knows nearly all of JSON Schema.
"""

from __future__ import annotations

import json
import re
from typing import Any

HEAD = "%llguidance {}\n"
# The style of json.dumps; with free white space a small model may write nothing else.
_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_COUNTS = {"minItems", "maxItems", "minProperties", "maxProperties"}
_FURTHEST = 10_000
_DEEPEST = 120
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_LARGEST = 2**63 - 1  # the engine takes bounds beyond it for this one
_ONE_SCHEMA = {"items", "prefixItems", "additionalProperties", "anyOf", "oneOf"}
_NAMED_SCHEMAS = {"properties", "$defs", "definitions"}
_VALUES = {"const", "enum", "default", "examples"}
_COMBINING = {"anyOf", "oneOf", "$ref", "patternProperties"}
# The literals of a GBNF, each read once, also where it is not closed: the client wrote it.
_LITERALS = re.compile(
    r'"(?:\\(?:.|\Z)|[^"\\])*+(?:"|\Z)|\[(?:\\(?:.|\Z)|[^\]\\])*+(?:\]|\Z)|#[^\n]*', re.DOTALL
)
# A repetition whose numbers are the wrong way round makes llama.cpp take all memory.
_REPEATED = re.compile(r"\{\s*+(\d*+)\s*+(?:,\s*+(\d*+)\s*+)?\}")
_MOST_REPEATED = 2000
_MOST_GROUPS = 1000  # many more, one in another, crash llama.cpp


def grammar_for(schema: dict[str, Any]) -> str:
    """The grammar of the JSON that ``schema`` allows, written as ``json.dumps`` does."""
    return HEAD + json_rule("start", schema)


def json_rule(name: str, schema: dict[str, Any]) -> str:
    """The rule ``name`` of a grammar: the JSON that ``schema`` allows."""
    schema = _without_nothing(schema)
    text = json.dumps(schema)
    # Where schemas are added up, a field that one does not list may be another one's.
    closed = schema if '"allOf"' in text else _closed(schema)
    return f"{name}: %json {json.dumps({**closed, 'x-guidance': _STYLE})}"


def _without_nothing(schema: Any, is_named: bool = False) -> Any:
    """``schema`` without ``uniqueItems: false``, which asks for nothing and is refused.

    ``is_named``: the keys are names of fields or definitions, and no keywords.
    """
    if isinstance(schema, list):
        return [_without_nothing(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: value
        if key in _VALUES and not is_named
        else _without_nothing(value, key in _NAMED_SCHEMAS and not is_named)
        for key, value in schema.items()
        if is_named or key != "uniqueItems" or value is not False
    }


def _closed(schema: Any) -> Any:
    """``schema`` without fields that it does not list, where it leaves that open.

    A narrower schema, so that a small model that goes on inventing fields comes to an end.
    """
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict) or ("properties" in schema and schema.keys() & _COMBINING):
        return schema
    closed = dict(schema)
    for name in _ONE_SCHEMA & schema.keys():
        closed[name] = _closed(schema[name])
    for name in _NAMED_SCHEMAS & schema.keys():
        if isinstance(schema[name], dict):
            closed[name] = {key: _closed(value) for key, value in schema[name].items()}
    fields, required = closed.get("properties"), schema.get("required", [])
    if not (isinstance(fields, dict) and fields and isinstance(required, list)):
        return closed
    if set(map(str, required)) <= fields.keys():
        closed.setdefault("additionalProperties", False)
    return closed


def check_size(schema: Any, depth: int = 0) -> None:
    """Raise ValueError where ``schema`` asks for more than the engine can hold an answer to."""
    if depth > _DEEPEST:
        raise ValueError(f"the JSON schema is nested more than {_DEEPEST} deep")
    if isinstance(schema, dict):
        for name in _COUNTS & schema.keys():
            if _is_number(schema[name]) and schema[name] > _FURTHEST:
                raise ValueError(f"{name} of the JSON schema is above {_FURTHEST}")
        _check_bounds(schema)
        schema = list(schema.values())
    if isinstance(schema, list):
        for value in schema:
            check_size(value, depth + 1)


def _check_bounds(schema: dict[str, Any]) -> None:
    """Refuse bounds of numbers that the engine would loosen without a word."""
    bounds = {name: schema[name] for name in _BOUNDS if _is_number(schema.get(name))}
    far = next((name for name, value in bounds.items() if abs(value) > _LARGEST), None)
    if far:
        raise ValueError(f"{far} of the JSON schema is beyond 64 bits")
    for side, other, sign in (
        ("exclusiveMinimum", ("maximum", "exclusiveMaximum"), 1),
        ("exclusiveMaximum", ("minimum", "exclusiveMinimum"), -1),
    ):
        nearest = min((sign * bounds[name] for name in other if name in bounds), default=1)
        if bounds.get(side) == 0 and nearest < 1 and schema.get("type") != "integer":
            what = "0, which the engine lets through where the other bound is less than 1 away"
            raise ValueError(f"{side} of the JSON schema is {what}: give one that is not 0")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_gbnf(grammar: str) -> None:
    """Raise ValueError where ``grammar`` would bring down the engine, or is of another notation."""
    if grammar.startswith("%"):
        raise ValueError("grammar: llama.cpp's GBNF is honoured, no other notation")
    bare = _LITERALS.sub("", grammar)
    if bare.count("(") > _MOST_GROUPS:
        raise ValueError(f"grammar: more than {_MOST_GROUPS} groups")
    for least, most in _REPEATED.findall(bare):
        if max(len(least), len(most)) > 9 or max(int(least or 0), int(most or 0)) > _MOST_REPEATED:
            raise ValueError(f"grammar: a repetition of more than {_MOST_REPEATED} times")
        if least and most and int(most) < int(least):
            raise ValueError(f"grammar: {{{least},{most}}} repeats at most less than at least")


def holds_json(grammar: str) -> bool:
    """Tell whether ``grammar`` holds an answer to a JSON schema, as a whole."""
    return grammar.startswith(f"{HEAD}start: %json")
