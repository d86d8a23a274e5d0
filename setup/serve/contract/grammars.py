"""Grammars that hold an answer to a JSON schema, and the check that an answer kept to one.

llama.cpp's own converter drops what it does not know of a schema (``not``, ``uniqueItems``, a
pattern with look-ahead), so the schema goes to llguidance, which is built into the engine and
knows nearly all of JSON Schema.
"""

from __future__ import annotations

import json
import re
from typing import Any

from setup.serve.contract.error_reply import EngineError

HEAD = "%llguidance {}\n"
# The style of json.dumps; with free white space a small model may write nothing else.
_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_COUNTS = {"minItems", "maxItems", "minProperties", "maxProperties"}
_FURTHEST = 10_000
_DEEPEST = 120
_ONE_SCHEMA = {"items", "prefixItems", "additionalProperties", "anyOf", "oneOf"}
_NAMED_SCHEMAS = {"properties", "$defs", "definitions"}
_COMBINING = {"anyOf", "oneOf", "$ref", "patternProperties"}
# What may stand at the end of JSON that was cut, where a JSON reader expects something else.
_CUT = re.compile(r"\s*(-|\.|(\.\d+)?[eE][+-]?|tr?u?|fa?l?s?|nu?l?|u[0-9a-fA-F]{0,4})?")


def grammar_for(schema: dict[str, Any]) -> str:
    """The grammar of the JSON that ``schema`` allows, written as ``json.dumps`` does."""
    return HEAD + json_rule("start", schema)


def json_rule(name: str, schema: dict[str, Any]) -> str:
    """The rule ``name`` of a grammar: the JSON that ``schema`` allows."""
    text = json.dumps(schema)
    # Where schemas are added up, a field that one does not list may be another one's.
    closed = schema if '"allOf"' in text else _closed(schema)
    return f"{name}: %json {json.dumps({**closed, 'x-guidance': _STYLE})}"


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
    """Raise ValueError where ``schema`` asks for more than the engine has memory for."""
    if depth > _DEEPEST:
        raise ValueError(f"the JSON schema is nested more than {_DEEPEST} deep")
    if isinstance(schema, dict):
        for name in _COUNTS & schema.keys():
            if isinstance(schema[name], (int, float)) and schema[name] > _FURTHEST:
                raise ValueError(f"{name} of the JSON schema is above {_FURTHEST}")
        schema = list(schema.values())
    if isinstance(schema, list):
        for value in schema:
            check_size(value, depth + 1)


def holds_json(body: dict[str, Any]) -> bool:
    """Tell whether the answer to ``body`` is held to a JSON schema."""
    return str(body.get("grammar", "")).startswith(f"{HEAD}start: %json")


def check_json(text: str, *, cut: bool) -> None:
    """Raise EngineError unless ``text`` is JSON, or the start of some where it was ``cut``."""
    try:
        _, end = json.JSONDecoder().raw_decode(text)
        whole = not text[end:].strip()
    except json.JSONDecodeError as error:
        end = len(text) if error.msg.startswith("Unterminated") else error.pos
        whole = False
    if not whole and not (cut and _CUT.fullmatch(text, end)):
        raise EngineError(500, "its answer left the JSON schema that it was held to")
