"""Each constraint, a schema or a grammar, is obeyed by the real model or refused."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

import pytest

from tests.home import Home, ask, ask_openai
from tests.setup.serve.replies import CHAT, WILD, chat, refused

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Z][a-z]{1,8}$"},
        "age": {"type": "integer", "minimum": 18, "maximum": 99, "multipleOf": 3},
        "mood": {"enum": ["good", "bad", None]},
    },
    "required": ["name", "age", "mood"],
}


def _formats(schema: dict[str, Any]) -> list[dict[str, Any]]:
    named = {"name": "it", "schema": schema}
    return [
        {"json_schema": schema},
        {"response_format": {"type": "json_schema", "json_schema": named | {"strict": True}}},
        {"response_format": {"type": "json_schema", "json_schema": named}},
        {"response_format": {"type": "json_object", "schema": schema}},
    ]


def test_schema_is_obeyed_whatever_the_model_would_say(home: Home) -> None:
    for seed, fields in enumerate(_formats(PERSON) * 2):
        answer = json.loads(chat(home, **fields, **WILD, max_tokens=64, seed=seed))
        assert set(answer) == {"name", "age", "mood"}
        assert re.fullmatch("[A-Z][a-z]{1,8}", answer["name"])
        assert answer["age"] in range(18, 100, 3)
        assert answer["mood"] in ("good", "bad", None)
    scored = home.call("/score", ask("Hi", json_schema=PERSON, max_new_tokens=64, **WILD))
    assert set(json.loads(scored.json()["output"])) == {"name", "age", "mood"}


def test_schema_is_obeyed_in_a_stream(home: Home) -> None:
    body = ask_openai("Hi", **_formats(PERSON)[1], max_tokens=64, stream=True)
    events = [line[6:] for line in home.call(CHAT, body).text.splitlines() if line]
    assert events.pop() == "[DONE]"
    deltas = [json.loads(event)["choices"][0]["delta"].get("content") or "" for event in events]
    assert set(json.loads("".join(deltas))) == {"name", "age", "mood"}


def test_any_object_when_no_schema_is_given(home: Home) -> None:
    answer = chat(home, response_format={"type": "json_object"}, max_tokens=128)
    assert isinstance(json.loads(answer), dict)
    assert chat(home, response_format={"type": "text"}) == chat(home)


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"not": {"type": "string"}}, "not"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "array", "contains": {"type": "integer"}}, "contains"),
        ({"if": {}, "then": {"type": "string"}}, "then"),
        ({"type": "string", "pattern": "^(?=a)b$"}, "look-ahead"),
        ({"type": "string", "format": "colour"}, "colour"),
        ({"$ref": "#/$defs/missing"}, "/$defs/missing"),
        ({"$ref": "https://example.com/schema"}, "example.com"),
        ({"type": "colour"}, "colour"),
        ({"type": "integer", "minimum": 5, "maximum": 1}, "minimum"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "cannot"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "cannot"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "anyOf is obeyed"),
        ({"type": "number", "multipleOf": 0.1, "minimum": 0.25, "maximum": 0.35}, "nothing"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 0.05}, "exclusiveMinimum"),
        ({"type": "number", "exclusiveMaximum": 0, "minimum": -0.05}, "exclusiveMaximum"),
        ({"type": "integer", "minimum": 10**20}, "minimum"),
        ({"type": "array", "minItems": 10**9}, "minItems"),
        ({"properties": {"required": {"maxItems": 10**5}}, "required": 5}, "maxItems"),
    ],
)
def test_schema_that_cannot_be_obeyed_is_refused(
    home: Home, schema: dict[str, Any], named: str
) -> None:
    """The engine alone would answer freely, with a word in its log."""
    for fields in _formats(schema)[:2]:
        error = refused(home, ask_openai("Hi", **fields))
        assert named in error["message"]
        assert error["param"] == next(iter(fields))


def _saying(answer: str) -> str:
    return f"Answer with this JSON and nothing else: {answer}"


def test_answer_that_does_not_fit_is_not_vouched_for(home: Home) -> None:
    """The engine drops a grammar it cannot go on with, and knows a date by its digits alone."""
    text, number = {"type": "string"}, {"type": "number", "multipleOf": 0.1}
    number |= {"minimum": 0.25, "maximum": 0.35}
    fields = {"name": text, "city": text, "p": number}
    dropped = {"type": "object", "properties": fields, "required": list(fields)}
    day = {"type": "object", "properties": {"p": {"type": "string", "format": "date"}}}
    day |= {"required": ["p"]}
    for schema, said, place in (
        (dropped, '{"name": "Alice", "city": "Paris", "p": 3}', "$.p"),
        (day, '{"p": "2023-02-29"}', "format at $.p"),
    ):
        body = ask_openai(_saying(said), json_schema=schema, max_tokens=60)
        reply = home.call(CHAT, body)
        assert reply.status_code == 424, reply.text
        assert "does not fit the JSON schema" in reply.json()["error"]["message"]
        assert place in reply.json()["error"]["message"]
        last = home.call(CHAT, body | {"stream": True}).text.strip().splitlines()[-1]
        assert "does not fit the JSON schema" in json.loads(last[6:])["error"]["message"]
    body = ask_openai(_saying('{"p": "2024-02-29"}'), json_schema=day)
    assert home.call(CHAT, body).json()["choices"][0]["message"]["content"] == '{"p": "2024-02-29"}'


def test_schema_with_more_ways_than_words_holds_up_nobody(home: Home) -> None:
    """Each of its levels doubles what is to be looked at in an answer that fits at the end."""
    ways: dict[str, Any] = {"s0": {"const": "x"}}
    for level in range(1, 25):
        ways[f"s{level}"] = {"anyOf": [{"$ref": f"#/$defs/s{level - 1}"}] * 2}
    schema = {"anyOf": [{"$ref": "#/$defs/s24"}, {"const": "y"}], "$defs": ways}
    reply = home.call(CHAT, ask_openai("Hi", json_schema=schema, max_tokens=8))
    assert reply.status_code in (200, 400), reply.text


@pytest.mark.parametrize("draft", [{}, 5, "http://[", "http://json-schema.org/draft-07/schema#"])
def test_unknown_draft_is_no_failure(home: Home, draft: Any) -> None:
    schema = {"$schema": draft, "type": "array", "items": {"const": 1}, "maxItems": 2}
    reply = home.call(CHAT, ask_openai("Hi", json_schema=schema))
    assert reply.status_code in (200, 400), reply.text


def test_numbers_patterns_and_what_asks_for_nothing_fit(home: Home) -> None:
    schema = {
        "type": "object",
        "properties": {
            "uniqueItems": {"type": "number", "multipleOf": 0.1, "minimum": 0.1, "maximum": 8},
            "b": {"type": "string", "pattern": "^(a+)+$", "maxLength": 30},
            "c": {"type": "array", "items": {"const": 1}, "uniqueItems": False, "maxItems": 2},
        },
        "required": ["uniqueItems", "b", "c"],
    }
    for seed in range(6):
        answer = json.loads(chat(home, json_schema=schema, max_tokens=90, **WILD, seed=seed))
        assert Decimal(str(answer["uniqueItems"])) % Decimal("0.1") == 0
        assert set(answer["b"]) == {"a"}
        assert set(answer["c"]) <= {1}


def test_schema_nested_too_deeply_is_refused(home: Home) -> None:
    schema: dict[str, Any] = {"type": "integer"}
    for depth in range(400):
        schema = {"anyOf": [schema]}
        if depth in (100, 399):
            assert refused(home, ask_openai("Hi", json_schema=schema))


@pytest.mark.parametrize(
    ("grammar", "answer"),
    [('root ::= "a"{5,5} "{2,1}"', "a{5}[{]2,1[}]"), ("root ::= [x-z] [0-9]{3}", "[x-z][0-9]{3}")],
)
def test_grammar_is_obeyed(home: Home, grammar: str, answer: str) -> None:
    for seed in range(4):
        assert re.fullmatch(answer, chat(home, grammar=grammar, seed=seed, **WILD))
    assert re.fullmatch(answer, home.call("/score", ask("Hi", grammar=grammar)).json()["output"])


@pytest.mark.parametrize(
    "fields",
    [
        {"grammar": ""},
        {"grammar": "nonsense"},
        {"grammar": "root ::= undefined"},
        {"grammar": "root := x"},
        {"grammar": 'root ::= "a"{5,2}'},
        {"grammar": 'root ::= ("a" | "b"){9000}'},
        {"grammar": 'root ::= "a"{' + "9" * 5000 + "}"},
        {"grammar": 'root ::= "a"{' + " " * 9000 + "," + " " * 9000},
        {"grammar": "[" * 20_000},
        {"grammar": 'root ::= root "a"'},
        {"grammar": "%llguidance {}\nstart: nonsense("},
        {"grammar": "root ::= " + "(" * 9000 + '"a"' + ")" * 9000},
        {"grammar": 'root ::= "a"', "json_schema": {"const": 1}},
        {"json_schema": {"const": 1}, "response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
        {"response_format": {"type": "xml"}},
        {"response_format": {"type": "text", "schema": {"const": 1}}},
    ],
    ids=lambda fields: str(fields)[:50],
)
def test_constraint_that_is_none_is_refused(home: Home, fields: dict[str, Any]) -> None:
    error = refused(home, ask_openai("Hi", **fields))
    assert any(name in error["message"] for name in fields)
    assert error["param"] is None or error["param"].partition(".")[0] in fields
