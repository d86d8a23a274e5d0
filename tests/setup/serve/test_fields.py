"""Each field of a request is obeyed by the real model or refused by its name, never dropped."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.home import ROOT, Home, ask, ask_openai
from tests.setup.serve.replies import CHAT, WILD, chat, refused

TOOL = {"type": "function", "function": {"name": "price", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("functions", [{"name": "price", "parameters": {"type": "object"}}]),
        ("tool_choice", "required"),
        ("tool_choice", {"type": "function", "function": {"name": "price"}}),
        ("function_call", {"name": "price"}),
        ("parallel_tool_calls", False),
        ("guided_json", {"const": "42"}),
        ("guided_regex", "[0-9]+"),
        ("structured_outputs", {"regex": "[0-9]+"}),
        ("n", 9),
        ("n", True),
        ("best_of", 3),
        ("echo", True),
        ("store", True),
        ("store", 0),
        ("service_tier", "flex"),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "alloy", "format": "wav"}),
        ("reasoning_effort", "low"),
        ("verbosity", "low"),
        ("prediction", {"type": "content", "content": "Hi"}),
        ("web_search_options", {"search_context_size": "low"}),
        ("stream_options", {"include_usage": True, "include_obfuscation": True}),
        ("stream_options", {"include_usage": True}),
        ("min_tokens", 5),
        ("cache_prompt", False),
        ("id_slot", 1),
        ("lora", [{"id": 0, "scale": 1.0}]),
        ("chat_template_kwargs", {"enable_thinking": False}),
        ("temprature", 0.1),
        ("top_logprobs", 3),
        ("temperature", "0.5"),
        ("max_tokens", True),
    ],
)
def test_field_that_is_not_obeyed_is_refused_by_name(home: Home, name: str, value: Any) -> None:
    error = refused(home, ask_openai("Hi", **{name: value}))
    assert name in error["message"]
    assert error["type"] == "invalid_request_error"


def test_every_unsupported_field_is_named_at_once(home: Home) -> None:
    error = refused(home, ask_openai("Hi", min_tokens=2, lora=[{}], audio={"voice": "x"}))
    assert error["message"].startswith("min_tokens, lora, audio: not supported")


@pytest.mark.parametrize("name", ["tools", "num_beams", "ignore_eos", "repetition_penalti"])
def test_parameters_of_score_are_as_strict(home: Home, name: str) -> None:
    error = refused(home, ask("Hi", **{name: [1]}), "/score")
    assert error["param"] == f"input_data.parameters.{name}"
    body = ask("Hi")
    body["input_data"][name] = body[name] = 1
    message = refused(home, body, "/score")["message"]
    assert f"input_data.{name}" in message
    assert f", {name}:" in message


NULLABLE = (
    *("frequency_penalty", "presence_penalty", "max_tokens", "max_completion_tokens", "n"),
    *("temperature", "top_p", "seed", "stop", "logprobs", "top_logprobs", "logit_bias", "stream"),
    *("stream_options", "response_format", "tools", "tool_choice", "store", "metadata", "user"),
    *("reasoning_effort", "modalities", "audio", "prediction", "service_tier", "a_field_of_2030"),
)


def test_null_is_as_absent(home: Home) -> None:
    body = ask_openai("Hi", max_completion_tokens=4)
    del body["max_tokens"]
    expected = home.call(CHAT, body).json()["choices"][0]["message"]
    for name in NULLABLE:
        reply = home.call(CHAT, {name: None} | body)
        assert (name, reply.status_code) == (name, 200)
        if name in body:
            continue
        assert reply.json()["choices"][0]["message"] == expected
    for name in ("temperature", "top_p", "seed", "stop", "do_sample", "max_tokens", "top_k"):
        assert home.call("/score", ask("Hi") | ask("Hi", **{name: None})).status_code == 200
    turn = {"role": "user", "content": "Hi", "name": None, "refusal": None, "tool_calls": None}
    assert home.call(CHAT, body | {"messages": [turn]}).status_code == 200
    assert home.call(CHAT, body | {"messages": None}).status_code == 400


def test_what_clients_always_send_is_accepted(home: Home) -> None:
    labels = {
        "user": "me",
        "metadata": {"run": "1"},
        "safety_identifier": "x",
        "prompt_cache_key": "y",
    }
    neutral = {
        "n": 1,
        "store": False,
        "service_tier": "auto",
        "modalities": ["text"],
        "echo": False,
    }
    nothing = {"tools": [], "functions": [], "tool_choice": "none", "stop": [], "logit_bias": {}}
    plain = chat(home)
    assert chat(home, **labels, **neutral, **nothing) == plain


def test_two_spellings_must_agree(home: Home) -> None:
    for route, body in (
        (CHAT, ask_openai("Hi", max_tokens=4, max_completion_tokens=5)),
        ("/score", ask("Hi", max_tokens=4, max_new_tokens=5)),
    ):
        assert "differ" in refused(home, body, route)["message"]
    assert chat(home, max_tokens=4, max_completion_tokens=4)


@pytest.mark.parametrize("stop", ["", [""], ["x", ""], [None], 5])
def test_empty_stop_is_refused(home: Home, stop: Any) -> None:
    assert "stop" in refused(home, ask_openai("Hi", stop=stop))["message"]
    assert "stop" in refused(home, ask("Hi", stop=stop), "/score")["message"]


def test_stop_ends_the_answer_before_it(home: Home) -> None:
    whole = chat(home)
    for stop in (whole[5:9], [whole[5:9], "never said"]):
        assert chat(home, stop=stop) == whole[: whole.index(whole[5:9])]


def test_stream_with_a_stop_is_the_whole_answer(home: Home) -> None:
    """Also where the tokens end in the middle of what may be a stop."""
    text = chat(home, max_tokens=12)
    begun = [*(text[place:] + "~" for place in range(len(text))), text[3:7], text[6:8], "\u200d~"]
    for stop in (begun, begun[:-3], ["~", begun[0]], [text[5]]):
        fields = {"stop": stop, "max_tokens": 12, "logprobs": True}
        whole = home.call(CHAT, ask_openai("Hi", **fields)).json()
        body = ask_openai("Hi", **fields, stream=True, stream_options={"include_usage": True})
        *events, last = _events(home, body)
        choices = [event["choices"][0] for event in events]
        told = "".join(choice["delta"].get("content") or "" for choice in choices)
        assert told == whole["choices"][0]["message"]["content"]
        assert choices[-1]["finish_reason"] == whole["choices"][0]["finish_reason"]
        assert last["usage"] | {"prompt_tokens_details": 0} == whole["usage"] | {
            "prompt_tokens_details": 0
        }
        rows = [row for c in choices for row in (c.get("logprobs") or {}).get("content", [])]
        assert told.startswith("".join(row["token"] for row in rows))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "f"}}, "tool_choice.name"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "text", "x": 1}}, "response_format.x"),
        ({"logit_bias": {"a": 5}}, "logit_bias.a"),
        ({"seed": 2**32 - 1}, "seed"),  # llama.cpp's word for none
        ({"web_search_options": {}}, "web_search_options"),  # by which it is switched on
        ({"x" * 300 + "\n": 1}, "x" * 100 + "..."),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "", "x": 1}]}]},
            "messages.0.content.0.x",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_refusal_names_the_field_as_the_client_wrote_it(
    home: Home, fields: dict[str, Any], param: str
) -> None:
    error = refused(home, ask_openai("Hi", **fields))
    assert error["param"] == param
    assert error["message"].startswith(f"{param}: ")


def test_text_that_no_text_can_hold_is_refused(home: Home) -> None:
    for route, body in ((CHAT, ask_openai("\ud800")), ("/score", ask("\ud800"))):
        assert "half of a character" in refused(home, body, route)["message"]
    for raw in (b'"\xed\xa0\x80"', '"\\ud800"'.encode("utf-16")):
        sent = b'{"messages": [{"role": "user", "content": %s}]}' % raw
        assert home.call(CHAT, sent).status_code == 400
    reply = home.call(CHAT, b'{"max_tokens": ' + b"9" * 5000 + b"}")
    assert reply.status_code == 400
    assert "set_int" not in reply.text  # advice to who writes Python


def test_developer_is_the_system_role(home: Home) -> None:
    def tokens(role: str) -> Any:
        messages = [{"role": role, "content": "Be brief."}, {"role": "user", "content": "Hi"}]
        return home.call("/tokenize", {"messages": messages}).json()["tokens"]

    assert tokens("developer") == tokens("system")


CALL = {"id": "a", "type": "function", "function": {"name": "price", "arguments": "{}"}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:,"}, "text": "What is it?"}


@pytest.mark.parametrize(
    ("turn", "named"),
    [
        ({"role": "tool", "tool_call_id": "a", "content": "1"}, "tool_call_id"),
        ({"role": "tool", "content": "1"}, "tool_call_id"),
        ({"role": "function", "name": "f", "content": "1"}, "messages.1.role"),
        ({"role": "function", "content": "1"}, "role: a turn of role 'function'"),
        ({"role": "assistant", "content": None, "tool_calls": [TOOL]}, "messages.1.tool_calls"),
        ({"role": "user", "content": "x", "tool_calls": [CALL]}, "tool_calls"),
        ({"role": "assistant", "content": None, "tool_calls": [CALL]}, "call a is missing"),
        ({"role": "assistant", "content": "x", "function_call": {"name": "f"}}, "function_call"),
        ({"role": "assistant", "content": None}, "content"),
        ({"role": "user", "content": "Hi", "name": "Bob"}, "name"),
        ({"role": "user", "content": [IMAGE]}, "image_url"),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "input_audio"),
        ({"role": "user", "content": [{"type": "text", "text": "a", "cache": 1}]}, "cache"),
        ({"role": "user", "content": []}, "content"),
        ({"role": "user", "content": [{"type": "text", "text": 5}]}, "content"),
    ],
)
def test_turn_that_the_model_cannot_read_is_refused(
    home: Home, turn: dict[str, Any], named: str
) -> None:
    messages = [{"role": "user", "content": "Hi"}, turn]
    assert named in refused(home, {"messages": messages})["message"]
    body = ask("Hi")
    body["input_data"]["input_string"] = messages
    assert named.removeprefix("messages.1.") in refused(home, body, "/score")["message"]


def test_text_parts_are_one_text(home: Home) -> None:
    def tokens(content: Any) -> Any:
        messages = [{"role": "user", "content": content}]
        return home.call("/tokenize", {"messages": messages}).json()["tokens"]

    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "this?"}]
    assert tokens(parts) == tokens("What is this?")


def test_logit_bias_is_obeyed(home: Home) -> None:
    plain = chat(home)
    first = home.call("/tokenize", {"prompt": plain}).json()["tokens"][0]
    assert chat(home, logit_bias={str(first): -100}).split()[0] != plain.split()[0]
    (wanted,) = home.call("/tokenize", {"prompt": "hello"}).json()["tokens"]
    assert chat(home, logit_bias={str(wanted): 100}, max_tokens=3) == "hello" * 3


@pytest.mark.parametrize("bias", [{"999999": 1}, {"hello": 1}, {"-1": 1}, {"5": 101}, [[5, 1]]])
def test_logit_bias_that_means_no_token_is_refused(home: Home, bias: Any) -> None:
    assert "logit_bias" in refused(home, ask_openai("Hi", logit_bias=bias))["message"]


def test_sampling_fields_are_obeyed(home: Home) -> None:
    greedy = chat(home, temperature=0)
    assert chat(home, **WILD | {"top_k": 1}) == greedy
    assert chat(home, **WILD | {"min_p": 1}) == greedy
    assert chat(home, **WILD | {"top_p": 0.0001}) == greedy
    wild = [chat(home, **WILD, seed=seed) for seed in (1, 1, 2)]
    assert wild[0] == wild[1] != wild[2]
    assert home.call("/score", ask("Hi", **WILD | {"top_k": 1})).json()["output"] == greedy
    said = "Say it again: one one one one one"
    repeated = home.call(CHAT, ask_openai(said, max_tokens=16)).json()
    penalised = home.call(CHAT, ask_openai(said, max_tokens=16, repetition_penalty=9)).json()
    assert repeated["choices"][0]["message"] != penalised["choices"][0]["message"]


def _events(home: Home, body: dict[str, Any]) -> list[dict[str, Any]]:
    lines = home.call(CHAT, body).text.strip().split("\n\n")
    assert lines.pop() == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def _logprobs(home: Home, body: dict[str, Any]) -> list[dict[str, Any]]:
    if not body.get("stream"):
        return list(home.call(CHAT, body).json()["choices"][0]["logprobs"]["content"])
    choices = [event["choices"][0] for event in _events(home, body)]
    return [row for choice in choices for row in (choice.get("logprobs") or {}).get("content", [])]


def test_several_answers_come_whole_and_in_a_stream(home: Home) -> None:
    body = ask_openai("Hi", n=3, max_tokens=6)
    reply = home.call(CHAT, body).json()
    texts = [choice["message"]["content"] for choice in reply["choices"]]
    assert texts == [chat(home, max_tokens=6)] * 3
    assert [choice["index"] for choice in reply["choices"]] == [0, 1, 2]
    assert reply["usage"]["completion_tokens"] == 18
    wild = home.call(CHAT, body | WILD | {"seed": 5}).json()["choices"]
    assert len({choice["message"]["content"] for choice in wild}) == 3
    streamed = {0: "", 1: "", 2: ""}
    events = _events(home, body | {"stream": True, "stream_options": {"include_usage": True}})
    last = events.pop()
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 18)
    assert len({event["id"] for event in events}) == 1
    for event in events:
        for choice in event["choices"]:
            streamed[choice["index"]] += choice["delta"].get("content") or ""
    assert list(streamed.values()) == texts


def test_logprobs_and_usage_come_as_asked(home: Home) -> None:
    body = ask_openai("Hi", max_tokens=3, logprobs=True, top_logprobs=2)
    rows = home.call(CHAT, body).json()["choices"][0]["logprobs"]["content"]
    assert [len(row["top_logprobs"]) for row in rows] == [2, 2, 2]
    for fields in ({}, {"top_logprobs": 0}):
        body = ask_openai("Hi", max_tokens=3, logprobs=True, **fields)
        assert [len(row["top_logprobs"]) for row in _logprobs(home, body)] == [0, 0, 0]
        assert _logprobs(home, body | {"stream": True}) == _logprobs(home, body)
    body = ask_openai("Hi", max_tokens=3, stream=True, stream_options={"include_usage": True})
    events = home.call(CHAT, body).text.strip().splitlines()
    usage = json.loads(events[-3].removeprefix("data: "))["usage"]
    assert usage["completion_tokens"] == 3


def test_answer_has_as_many_tokens_as_documented(home: Home) -> None:
    """Nothing is said of a length, and the model is kept from ending by itself."""
    (hello,) = home.call("/tokenize", {"prompt": "hello"}).json()["tokens"]
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
    body["logit_bias"] = {str(hello): 100}
    reply = home.call(CHAT, body).json()
    assert reply["usage"]["completion_tokens"] == 256
    assert reply["choices"][0]["finish_reason"] == "length"
    assert "| 256 |" in (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def test_documentation_names_every_field(home: Home) -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = text.partition("## Fields")[2].partition("\n## ")[0]
    documented = set(re.findall(r"`(\w+)`", section))
    schemas = home.call("/swagger.json", None, "GET").json()["components"]["schemas"]
    for schema in ("ChatRequest", "Parameters", "Message", "TokenizeRequest", "InputData"):
        missing = set(schemas[schema]["properties"]) - documented
        assert not missing, schema
