"""The span of a question to an engine: what it was asked, how it ended, what it took."""

from __future__ import annotations

import json
import secrets

import pytest
import requests

from tests.home import Home, ask_openai
from tests.scripted.collector import Collector, Span, collecting, variables

PARENT = "00f067aa0ba902b7"
COMPLETIONS = "/v1/chat/completions"


def _spans(traced: Home, collector: Collector, **parameters: object) -> tuple[Span, list[Span]]:
    """The endpoint's span of a question to it, and those of the engine."""
    trace = secrets.token_hex(16)
    sent = {"traceparent": f"00-{trace}-{PARENT}-01"}
    reply = traced.call(COMPLETIONS, ask_openai("Name a bird.", **parameters), **sent)
    assert reply.status_code == 200, reply.text
    spans = collector.spans_of(trace, f"POST {COMPLETIONS}")
    engines = [span for span in spans if span.name == "chat base"]
    (endpoint,) = (span for span in spans if span not in engines)
    return endpoint, engines


@pytest.mark.parametrize("stream", [False, True])
def test_each_answer_of_several_has_its_own_tokens(
    traced: Home, collector: Collector, stream: bool
) -> None:
    endpoint, engines = _spans(traced, collector, n=3, max_tokens=8, stream=stream)
    read = endpoint.tokens[0]
    assert [engine.tokens for engine in engines] == [(read, 8)] * 3
    assert endpoint.tokens == (read, 24)


# By the conventions; a back end may refuse a value of another type, or keep two columns.
_DOUBLES = ("temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty")
_INTEGERS = ("max_tokens", "seed")


def test_numbers_are_of_the_types_that_the_conventions_name(
    traced: Home, collector: Collector
) -> None:
    asked = dict.fromkeys((*_DOUBLES, *_INTEGERS), 1)
    _, (engine,) = _spans(traced, collector, **asked)
    told = {name: engine.attributes[f"gen_ai.request.{name}"] for name in asked}
    assert told == asked
    types = {name: type(value) for name, value in told.items()}
    assert types == dict.fromkeys(_DOUBLES, float) | dict.fromkeys(_INTEGERS, int)


def test_output_that_is_held_to_json_is_said_to_be(traced: Home, collector: Collector) -> None:
    _, (free,) = _spans(traced, collector, max_tokens=3)
    _, (held,) = _spans(traced, collector, max_tokens=3, response_format={"type": "json_object"})
    assert "gen_ai.output.type" not in free.attributes
    assert held.attributes["gen_ai.output.type"] == "json"


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
def test_stream_tells_how_it_ended(
    traced: Home, collector: Collector, options: dict[str, object]
) -> None:
    endpoint, (cut,) = _spans(traced, collector, stream=True, max_tokens=3, **options)
    _, (whole,) = _spans(traced, collector, stream=True, max_tokens=200, stop=[" "], **options)
    told = [span.attributes["gen_ai.response.finish_reasons"] for span in (cut, whole)]
    assert told == [["length"], ["stop"]]
    assert cut.tokens == endpoint.tokens
    assert cut.attributes["gen_ai.response.id"] != whole.attributes["gen_ai.response.id"]
    assert cut.attributes["gen_ai.response.model"] == "base"
    assert cut.attributes["llama_cpp.timings.predicted_ms"] > 0
    assert whole.attributes["gen_ai.usage.cache_read.input_tokens"] > 0


def test_stream_that_its_reader_leaves_tells_what_it_has_told(
    traced: Home, collector: Collector
) -> None:
    trace = secrets.token_hex(16)
    headers = {
        "Authorization": f"Bearer {traced.key()}",
        "traceparent": f"00-{trace}-{PARENT}-01",
    }
    endless = {"grammar": 'root ::= "la " root', "max_tokens": 1000}
    body = ask_openai("Sing a song.", stream=True, **endless)
    url = traced.url + COMPLETIONS
    with requests.post(url, json=body, headers=headers, stream=True, timeout=60) as reply:
        next(reply.iter_lines())
    spans = {span.name: span for span in collector.spans_of(trace, f"POST {COMPLETIONS}")}
    endpoint, engine = spans[f"POST {COMPLETIONS}"], spans["chat base"]
    assert endpoint.attributes["error.type"] == "client_closed_request"
    assert engine.attributes["error.type"] == "CancelledError"
    assert engine.attributes["gen_ai.response.model"] == "base"
    assert "gen_ai.response.finish_reasons" not in engine.attributes
    assert engine.tokens == (None, None)


def test_content_of_a_conversation_with_tools_has_the_conventions_parts(tools_home: Home) -> None:
    function = {"name": "price_of", "arguments": '{"product": "lamp"}'}
    called = {"id": "1", "type": "function", "function": function}
    turns = [
        {"role": "user", "content": "What does a lamp cost?"},
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "1", "content": "5"},
    ]
    with collecting() as collector:
        shown = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true"}
        with tools_home.altered(**variables(collector.url, **shown)):
            for step in ("stop", "deploy"):
                assert tools_home.setup(step).returncode == 0
        _, (engine,) = _spans(tools_home, collector, messages=turns, max_tokens=4)
    told = json.loads(engine.attributes["gen_ai.input.messages"])
    assert [part for turn in told[1:] for part in turn["parts"]] == [
        {"type": "tool_call", "id": "1", **function},
        {"type": "tool_call_response", "id": "1", "response": "5"},
    ]
    (said,) = json.loads(engine.attributes["gen_ai.output.messages"])
    assert (said["role"], said["finish_reason"]) == ("assistant", "length")
