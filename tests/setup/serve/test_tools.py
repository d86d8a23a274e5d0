"""Tools: called where the template knows them, held to their schemas, else refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.home import Home, ask, ask_openai
from tests.setup.serve.replies import CHAT, WILD, refused

PARAMETERS = {
    "type": "object",
    "properties": {
        "product": {"type": "string", "maxLength": 12},
        "count": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["product", "count"],
}
TOOL = {"type": "function", "function": {"name": "price_of", "parameters": PARAMETERS}}
OTHER = {"type": "function", "function": {"name": "stop-it"}}
QUESTION = "What do three lamps cost?"
LIST = {"name": "f", "parameters": {"type": "array", "items": {"type": "integer"}}}
NAMED = {"type": "function", "function": {"name": "price_of"}}


def _asked(home: Home, **fields: Any) -> dict[str, Any]:
    body = ask_openai(QUESTION, **{"tools": [TOOL, OTHER], "max_tokens": 96} | fields)
    reply = home.call(CHAT, body)
    assert reply.status_code == 200, reply.text
    return dict(reply.json()["choices"][0])


def _streamed(home: Home, **fields: Any) -> dict[str, Any]:
    body = ask_openai(QUESTION, **{"tools": [TOOL, OTHER], "max_tokens": 96} | fields, stream=True)
    lines = home.call(CHAT, body).text.strip().split("\n\n")
    assert lines.pop() == "data: [DONE]"
    choices = [json.loads(line[6:])["choices"][0] for line in lines]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    calls = [call for choice in choices for call in choice["delta"].get("tool_calls", [])]
    return {"text": text, "calls": calls, "finish_reason": choices[-1]["finish_reason"]}


def _calls_before() -> list[dict[str, Any]]:
    """A conversation in which the model has called for every question, and gets another one."""
    turns: list[dict[str, Any]] = []
    for number, product in enumerate(("lamp", "chair")):
        function = {"name": "price_of", "arguments": json.dumps({"product": product, "count": 2})}
        call = {"id": str(number), "type": "function", "function": function}
        turns += [
            {"role": "user", "content": f"What do two of the {product} cost?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": str(number), "content": "5"},
            {"role": "assistant", "content": "They cost 5."},
        ]
    return [*turns, {"role": "user", "content": "What do two of the table cost?"}]


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_call_that_must_be_made_is_made(tools_home: Home, choice: Any) -> None:
    for seed in range(3):
        fields = {"tool_choice": choice, "seed": seed, "temperature": 1.5}
        answer = _asked(tools_home, **fields, parallel_tool_calls=False)
        (call,) = answer["message"]["tool_calls"]
        assert answer["finish_reason"] == "tool_calls"
        assert answer["message"]["content"] is None
        assert call["function"]["name"] in ("price_of", "stop-it")[: 1 if choice is NAMED else 2]
        assert call["id"]
        if call["function"]["name"] == "price_of":
            arguments = json.loads(call["function"]["arguments"])
            assert arguments.keys() == {"product", "count"}
            assert len(arguments["product"]) <= 12
            assert arguments["count"] in range(1, 10)


def test_call_is_the_same_in_a_stream(tools_home: Home) -> None:
    whole = _asked(tools_home, tool_choice=NAMED)
    streamed = _streamed(tools_home, tool_choice=NAMED)
    (call,), (piece,) = whole["message"]["tool_calls"], streamed["calls"]
    assert (piece["index"], piece["function"]) == (0, call["function"])
    assert (streamed["text"], streamed["finish_reason"]) == ("", "tool_calls")


def test_model_calls_when_it_likes(tools_home: Home) -> None:
    quiet = _asked(tools_home, max_tokens=8)
    assert quiet["message"]["content"]
    assert "tool_calls" not in quiet["message"]
    assert _streamed(tools_home, max_tokens=8)["text"] == quiet["message"]["content"]
    fields = {"messages": _calls_before(), "parallel_tool_calls": False}
    calling, streamed = _asked(tools_home, **fields), _streamed(tools_home, **fields)
    (call,), (piece,) = calling["message"]["tool_calls"], streamed["calls"]
    assert call["function"]["name"] == "price_of"
    assert piece["function"] == call["function"]
    assert (calling["message"]["content"], streamed["text"]) == (None, "")


def test_call_that_is_cut_says_so(tools_home: Home) -> None:
    for limit in (2, 10, 20, 24):
        answer = _asked(tools_home, tool_choice=NAMED, max_tokens=limit)
        assert answer["finish_reason"] == "length"
        assert answer["message"]["content"] is None
    assert answer["message"]["tool_calls"][0]["function"]["name"] == "price_of"


def test_call_that_a_stop_cuts_is_none(tools_home: Home) -> None:
    fields = {"tool_choice": "required", "stop": ['"count"']}
    answer, streamed = _asked(tools_home, **fields), _streamed(tools_home, **fields)
    assert (answer["finish_reason"], streamed["finish_reason"]) == ("stop", "stop")
    assert "tool_calls" not in answer["message"]
    assert streamed["calls"] == []


def test_arguments_are_an_object(tools_home: Home) -> None:
    """Also where the schema forgets to say so, and so that the call can be sent back."""
    properties = {"a": {"type": "integer", "minimum": 0, "maximum": 9}}
    tool = {"name": "f", "parameters": {"properties": properties, "required": ["a"]}}
    tools = [{"type": "function", "function": tool}]
    for seed in range(3):
        fields = {"tool_choice": "required", "seed": seed, "parallel_tool_calls": False, **WILD}
        (call,) = _asked(tools_home, tools=tools, **fields)["message"]["tool_calls"]
        assert json.loads(call["function"]["arguments"]).keys() == {"a"}


def test_no_call_where_none_is_wanted(tools_home: Home) -> None:
    answer = _asked(tools_home, tool_choice="none", messages=_calls_before(), max_tokens=30)
    assert "tool_calls" not in answer["message"]


def test_several_calls_are_told_apart(tools_home: Home) -> None:
    answer = _asked(tools_home, messages=_calls_before(), max_tokens=90)
    first, second = answer["message"]["tool_calls"][:2]
    assert first["id"] != second["id"]
    assert json.loads(first["function"]["arguments"]) == {"product": "table", "count": 2}


def test_answer_is_a_call_or_keeps_to_its_schema(tools_home: Home) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}}
    for seed in range(4):
        answer = _asked(tools_home, response_format=wanted, temperature=1.5, seed=seed)
        calls = answer["message"].get("tool_calls")
        assert calls or json.loads(answer["message"]["content"])["a"] in (1, 2)


def test_result_of_a_call_is_read(tools_home: Home) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "price_of", "arguments": "{}"}}
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "zanzibar"},
    ]
    for tools in ([], [TOOL]):
        body = {"messages": turns, "max_tokens": 1, "tools": tools}
        assert tools_home.call(CHAT, body).status_code == 200
    longer = [*turns[:2], turns[2] | {"content": "zanzibar " * 20}]
    counts = [
        tools_home.call("/tokenize", {"messages": messages}).json()["count"]
        for messages in (turns, longer)
    ]
    assert counts[1] > counts[0] + 19
    for wrong in (turns[:2], [turns[0], turns[2]], [*turns[:2], turns[2] | {"tool_call_id": "b"}]):
        assert "call" in refused(tools_home, {"messages": wrong})["message"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"tools": [TOOL, TOOL]}, "price_of"),
        ({"tools": [{"type": "retrieval"}]}, "tools.0.type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name"),
        ({"tools": [{"type": "function", "function": LIST}]}, "parameters of f"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "nope"}}}, "nope"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [], "parallel_tool_calls": True}, "parallel_tool_calls"),
        ({"grammar": 'root ::= "a"'}, "grammar"),
        ({"logprobs": True}, "logprobs"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"not": {}}}}]},
            "f: the JSON schema cannot be obeyed",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_tools_that_cannot_be_obeyed_are_refused(
    tools_home: Home, fields: dict[str, Any], named: str
) -> None:
    body = ask_openai(QUESTION, **{"tools": [TOOL]} | fields)
    assert named in refused(tools_home, body)["message"]


def test_template_without_tools_refuses_them_by_name(home: Home) -> None:
    for choice in ("auto", "none", "required"):
        error = refused(home, ask_openai(QUESTION, tools=[TOOL], tool_choice=choice))
        assert error["message"].startswith("tools: the chat template of this model has no place")
        assert (error["param"], error["code"]) == ("tools", "unsupported_parameter")
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]
    assert refused(home, {"messages": turns})["param"] == "messages"
    body = ask("x")
    body["input_data"]["input_string"] = turns
    error = refused(home, body, "/score")
    assert (error["target"], error["details"]) == ("messages", [])
    assert "tools" in refused(home, {"messages": turns}, "/tokenize")["message"]
