"""JSON schemas: the engine holds an answer to one, or the request is refused.

llama.cpp's own converter drops what it does not know of a schema (``not``, ``uniqueItems``, a
pattern with look-ahead), so the schema goes to llguidance, which is built into the engine and
knows nearly all of JSON Schema. Of what it cannot take, and of a schema that it gives up on in the
middle of an answer, it tells llama.cpp's log alone and lets the model say anything. So each schema
is tried on a few tokens first, and an answer is read as JSON before it is vouched for.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

from setup.serve.contract.error_reply import ApiError, EngineError
from setup.serve.engine import Engine

_HEAD = "%llguidance {}\n"
_START = _HEAD + "start: "
# The style of json.dumps; with free white space a small model may write nothing else.
_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_MARK = "~#~"
_TRIED_AT_MOST = 128
_DONE = b"data: [DONE]"
# llguidance's own words, without the place in the grammar and the schema, which follow.
_WORDS = re.compile(
    r"llg error: (?:at [^:]*: )?(?:failed to compile JSON schema: )?(.+?)(?=\n\s*\d+ \||\n<|\Z)",
    re.DOTALL,
)
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
    text = json.dumps(schema)
    # Where schemas are added up, a field that one does not list may be another one's.
    closed = schema if '"allOf"' in text else _closed(schema)
    return f"{_START}%json {json.dumps({**closed, 'x-guidance': _STYLE})}"


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
    return str(body.get("grammar", "")).startswith(_HEAD)


async def see_obeyed(engine: Engine, body: dict[str, Any]) -> None:
    """Refuse, with 422, what the engine would leave out of ``body`` in silence.

    A grammar of ``grammar_for`` is tried on the engine; quick for one that it has seen before.
    """
    if "logit_bias" in body:
        known = await engine.vocabulary()
        unknown = next((token for token in body["logit_bias"] if int(token) >= known), None)
        if unknown is not None:
            field = f"logit_bias.{unknown}"
            raise ApiError(422, f"{field}: the model's token ids are below {known}", param=field)
    if not holds_json(body):
        return
    grammar = body["grammar"]
    async with engine.trying:
        if grammar not in engine.tried:
            if len(engine.tried) >= _TRIED_AT_MOST:
                engine.tried.clear()
            engine.tried[grammar] = await _complaint(engine, grammar)
    if engine.tried.get(grammar):
        message = f"the JSON schema cannot be obeyed, so it is refused: {engine.tried[grammar]}"
        raise ApiError(422, message, code="unsupported_schema")


async def _complaint(engine: Engine, grammar: str) -> str:
    """Nothing where the answer begins with a mark that stands before the schema, and goes on."""
    before = engine.log_size
    marked = grammar.replace(_START, f'{_START}"{_MARK}" answer\nanswer: ', 1)
    body = {"prompt": "x", "n_predict": 8, "temperature": 0, "grammar": marked}
    text = str((await engine.post("/completion", body))["content"])
    try:
        check_json(text.removeprefix(_MARK), cut=True)
        return "" if text.startswith(_MARK) else await _logged(engine, before)
    except EngineError:
        return await _logged(engine, before)


async def _logged(engine: Engine, before: int) -> str:
    for _ in range(50):
        log = engine.log_since(before)
        if words := _WORDS.search(log):
            return " ".join(words[1].split())[:200]
        await asyncio.sleep(0.02)  # the engine answers a moment before it writes
    return "the engine does not say why"


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


async def checked(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A stream that ends only after its answer was read as JSON; EngineError where it is none."""
    told, rest, text, reason = b"", b"", "", ""
    async for piece in pieces:
        whole, end, rest = (rest + piece).rpartition(b"\n\n")
        told += whole + end
        if _DONE in whole:
            for line in told.splitlines():
                events = json.loads(line[6:]).get("choices", []) if line[:7] == b"data: {" else []
                text += "".join(choice["delta"].get("content") or "" for choice in events)
                reason = next(
                    (c["finish_reason"] for c in events if c.get("finish_reason")), reason
                )
            check_json(text, cut=reason == "length")
        yield whole + end
    yield rest
