"""Servers with manners of their own: read rightly, or refused with a fix that works as printed."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from promptflow.exceptions import UserErrorException

from tests.flows.chat.conftest import Ask, Connect
from tests.flows.chat.test_failures import fails
from tests.scripted.server import Handler, Server, Step
from tests.scripted.steps import delta, events, reply

Refuse = Callable[[dict[str, Any]], Any]
GOOD = {"choices": [{"message": {"content": "Hi."}, "finish_reason": "stop"}]}


def strict(server: Server, refuse: Refuse, good: Any = None, status: int = 400) -> Step:
    """A server that answers where ``refuse`` has nothing to say of the body."""

    def step(handler: Handler) -> None:
        said = refuse(server.received[-1].body)
        reply(good or GOOD)(handler) if said is None else reply(said, status)(handler)

    return step


def openai_error(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", **more}}


def gpt5(body: dict[str, Any]) -> Any:
    if "max_tokens" in body:
        what = "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
        more = {"param": "max_tokens", "code": "unsupported_parameter"}
        return openai_error(f"{what}'max_completion_tokens' instead.", **more)
    if body.get("temperature", 1) != 1 or "top_p" in body:
        name = "temperature" if body.get("temperature", 1) != 1 else "top_p"
        what = f"Unsupported value: '{name}' does not support 0.0 with this model."
        return openai_error(what, param=name, code="unsupported_value")
    return None


def old_server(body: dict[str, Any]) -> Any:
    if "max_completion_tokens" in body:
        loc = ["body", "max_completion_tokens"]
        said = {"type": "extra_forbidden", "loc": loc, "msg": "Extra inputs are not permitted"}
        return {"detail": [said]}
    return None


def no_system(message: str) -> Refuse:
    def refuse(body: dict[str, Any]) -> Any:
        return openai_error(message) if body["messages"][0]["role"] == "system" else None

    return refuse


def no_model(said: Any) -> Refuse:
    return lambda body: None if body.get("model") else said


def greedy_refused(body: dict[str, Any]) -> Any:
    if body.get("temperature") == 0:
        return {"error": "`temperature` must be strictly positive", "error_type": "validation"}
    return None


# Case: what refuses, its status, settings at first, the keys that the fixes name in their order.
FIXES: dict[str, tuple[Refuse, int, dict[str, str], list[str]]] = {
    "gpt-5": (gpt5, 400, {}, ["answer_limit=max_completion_tokens", "sampling=omit"]),
    "the other way": (
        old_server,
        422,
        {"answer_limit": "max_completion_tokens"},
        ["answer_limit=max_tokens"],
    ),
    "TGI and greed": (greedy_refused, 422, {}, ["sampling=omit"]),
    "gemma": (no_system("System role not supported"), 400, {}, ["system_role=fold"]),
    "mistral": (
        no_system("Only user and assistant roles are supported!"),
        500,
        {},
        ["system_role=fold"],
    ),
    "turns": (
        no_system("Conversation roles must alternate user/assistant/user/assistant/..."),
        400,
        {},
        ["system_role=fold"],
    ),
    "pydantic wants a model": (
        no_model({"detail": [{"loc": ["body", "model"], "msg": "field required"}]}),
        422,
        {},
        ["model=MODEL"],
    ),
    "OpenAI wants a model": (
        no_model(openai_error("you must provide a model parameter")),
        400,
        {},
        ["model=MODEL"],
    ),
    "vLLM knows another model": (
        lambda body: (
            None if body.get("model") == "MODEL" else openai_error("The model `x` does not exist.")
        ),
        404,
        {"model": "x"},
        ["model=MODEL"],
    ),
}


def follow(fix: str) -> None:
    """Run the command that a fix prints, in this process."""
    entry = importlib.import_module("promptflow._cli._pf.entry")
    command = re.search(r"pf connection update --name \S+ --set \S+", fix)
    assert command, fix
    argv = shlex.split(command[0])
    with mock.patch.object(sys, "argv", argv):
        entry.main()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("case", FIXES)
def test_the_printed_fix_works(
    server: Server, connect: Connect, ask: Ask, case: str, stream: bool
) -> None:
    refuse, status, configs, keys = FIXES[case]
    connect("openai", **{"system_role": "native", **configs})
    server.play(strict(server, refuse, status=status))
    for key in keys:
        before = len(server.received)
        with pytest.raises(UserErrorException) as caught:
            ask(system_prompt="Be kind.", stream=stream)
        assert len(server.received) == before + 1, "what was refused is not asked again"
        fix = str(caught.value).partition("Fix: ")[2]
        assert fix.endswith(f": pf connection update --name phi --set configs.{key}")
        follow(fix)
    assert ask(system_prompt="Be kind.", stream=stream) == "Hi."


def test_azure_openai(server: Server, connect: Connect, ask: Ask) -> None:
    """Its keys go into a header of their own, and its URLs end in a version."""

    def step(handler: Handler) -> None:
        headers, path = server.received[-1].headers, server.received[-1].path
        if "api-key" not in headers:
            said = "Access denied due to invalid subscription key or wrong API endpoint."
            reply({"error": {"code": "401", "message": said}}, 401)(handler)
        elif "api-version=" not in path:
            reply({"error": {"code": "404", "message": "Resource not found"}}, 404)(handler)
        else:
            reply(GOOD)(handler)

    connect("openai")
    server.play(step)
    with pytest.raises(UserErrorException) as caught:
        ask()
    follow(str(caught.value))
    fails(ask, "NotFoundError", "in ?api-version=…, as Azure OpenAI's URLs do", 5)
    url = f"{server.url}/openai/deployments/phi/chat/completions?api-version=2024-10-21"
    connect("openai", endpoint=url, key_header="api-key")
    assert ask() == "Hi."
    assert "authorization" not in server.received[-1].headers


def message(**fields: Any) -> dict[str, Any]:
    reason = fields.pop("finish_reason", "stop")
    return {"choices": [{"message": {"role": "assistant", **fields}, "finish_reason": reason}]}


THOUGHT = "let me see: <b>Paris</b> & 東京"
READ: dict[str, dict[str, Any]] = {
    "think": {"content": f"<think>\n{THOUGHT}\n</think>\n\nHi."},
    "think twice": {"content": f"<think>{THOUGHT}</think>\n<think>more</think> Hi."},
    "empty think": {"content": "<think>\n\n</think>\n\nHi."},
    "capitals and blanks": {"content": f" \n<THINK>{THOUGHT}</Think>Hi."},
    "another tag": {"content": f"<reasoning>{THOUGHT}</reasoning>\nHi."},
    "brackets": {"content": f"[THINK]{THOUGHT}[/THINK]Hi."},
    "the opening tag was in the prompt": {"content": f"{THOUGHT}\n</think>\n\nHi."},
    "a field of its own": {"content": "Hi.", "reasoning_content": THOUGHT},
    "another field": {"content": "Hi.", "reasoning": THOUGHT},
    "both": {"content": f"<think>{THOUGHT}</think>Hi.", "reasoning_content": THOUGHT},
    "parts": {"content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i."}]},
    "parts that think": {
        "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]},
            {"type": "text", "text": "Hi."},
        ]
    },
    "a part that hides its thinking": {
        "content": [{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "Hi."}]
    },
    "a refusal": {"content": None, "refusal": "Hi."},
    "text beside a call": {"content": "Hi.", "tool_calls": [{"function": {"name": "f"}}]},
}


@pytest.mark.parametrize("case", READ)
def test_answer_without_its_thinking(server: Server, connect: Connect, ask: Ask, case: str) -> None:
    connect("openai")
    server.play(reply(message(**READ[case])))
    assert ask() == "Hi."


@pytest.mark.parametrize("contract", ["score", "mlflow"])
def test_thinking_in_the_other_contracts(
    server: Server, connect: Connect, ask: Ask, contract: str
) -> None:
    text = f"<think>{THOUGHT}</think>\nHi."
    connect(contract)
    server.play(reply({"output": text} if contract == "score" else [text]))
    assert ask() == "Hi."


@pytest.mark.parametrize(
    "text",
    [
        "Write <think> to think.",
        "The tags <think>a</think> are stripped.",
        "```html\n<think>\na\n</thinking>\n```",
        "< 3 and <thin",
        "<thinker>Rodin</thinker>",
        "[THINKING] is no tag",
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_may_speak_of_tags(
    server: Server, connect: Connect, ask: Ask, text: str, stream: bool
) -> None:
    connect("openai")
    server.play(
        events(*map(delta, text), delta("", "stop")) if stream else reply(message(content=text))
    )
    assert ask(stream=stream) == text


THINKING_STREAMS = {
    "in one piece": [f"<think>{THOUGHT}</think>Hi."],
    "letter by letter": [*f"<think>\n{THOUGHT}\n</think>\n\nHi."],
    "tags cut in two": ["<thi", "nk>a</th", "ink>\n", "\nH", "i."],
    "twice": ["<think>a</think>", "\n<thi", "nk>b</think>", "Hi."],
    "brackets": ["[THI", "NK]a[", "/THINK]Hi."],
}


@pytest.mark.parametrize("case", THINKING_STREAMS)
def test_thinking_is_not_streamed(server: Server, connect: Connect, ask: Ask, case: str) -> None:
    connect("openai")
    server.play(events(*map(delta, THINKING_STREAMS[case]), delta("", "stop")))
    assert ask(stream=True) == "Hi."


def test_fields_and_parts_in_a_stream(server: Server, connect: Connect, ask: Ask) -> None:
    def chunk(**fields: Any) -> dict[str, Any]:
        return {"choices": [{"delta": fields}]}

    connect("openai")
    server.play(
        events(
            chunk(role="assistant", content="", reasoning_content=THOUGHT),
            chunk(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}]),
            chunk(content=[{"type": "text", "text": "H"}]),
            chunk(content="i.", tool_calls=None),
            delta("", "stop"),
        )
    )
    assert ask(stream=True) == "Hi."


CALL = {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "look_up"}}]}
NO_ANSWER: dict[str, tuple[dict[str, Any], str, str]] = {
    "only reasoning, cut": (
        {"content": None, "reasoning_content": "hm", "finish_reason": "length"},
        "ReasoningError",
        "thought until its tokens were used up",
    ),
    "only reasoning": ({"content": "", "reasoning": "hm"}, "ReasoningError", "thought only"),
    "only details of reasoning": (
        {"content": "", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        "ReasoningError",
        "thought only",
    ),
    "cut inside think": (
        {"content": "<think>hm, well", "finish_reason": "length"},
        "ReasoningError",
        "max_new_tokens",
    ),
    "think and no more": ({"content": "<think>hm</think>\n"}, "ReasoningError", "no answer"),
    "tool call": (
        {"content": None, **CALL, "finish_reason": "tool_calls"},
        "ToolCallError",
        "calls a tool (look_up) instead of answering",
    ),
    "tool call after words": (
        {"content": "Let me look.", **CALL, "finish_reason": "tool_calls"},
        "ToolCallError",
        "look_up",
    ),
    "function call of old": (
        {"content": None, "function_call": {"name": "f", "arguments": "{}"}},
        "ToolCallError",
        "calls a tool (f)",
    ),
    "an image": (
        {"content": [{"type": "image_url", "image_url": {"url": "x"}}]},
        "BadPayloadError",
        "a part of type 'image_url'",
    ),
    "a number": ({"content": 7}, "BadPayloadError", "text in choices[0].message.content"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("case", NO_ANSWER)
def test_no_answer_is_an_error_of_its_own(
    server: Server, connect: Connect, ask: Ask, case: str, stream: bool
) -> None:
    fields, kind, says = NO_ANSWER[case]
    fields = dict(fields)
    reason = fields.pop("finish_reason", "stop")
    connect("openai")
    whole = message(finish_reason=reason, **fields)
    pieces = [{"choices": [{"delta": fields}]}, delta("", reason)]
    server.play(events(*pieces) if stream else reply(whole))
    fails(
        ask,
        kind,
        says.replace("message.content", "delta.content" if stream else "message.content"),
        5,
        stream=stream,
    )


def test_thinking_that_a_stream_could_not_tell(server: Server, connect: Connect, ask: Ask) -> None:
    connect("openai")
    server.play(events(*map(delta, ["hm\n", "</think>\n", "Hi."]), delta("", "stop")))
    fails(ask, "ReasoningError", "set the chat node's 'stream' to false", 5, stream=True)


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ("max_tokens is deprecated; please use max_completion_tokens", "answer_limit"),
        ("this model requires max_completion_tokens", "answer_limit"),
        ("'max_tokens' cannot be used with reasoning models", "answer_limit"),
        ("Please remove max_tokens.", "answer_limit"),
        ("temperature must be 1 for this model", "sampling"),
        ("invalid temperature: only 1 is allowed for this model", "sampling"),
        ("`temperature` may only be set to 1 when thinking is enabled", "sampling"),
    ],
)
def test_a_refusal_in_other_words(
    server: Server, connect: Connect, ask: Ask, said: str, key: str
) -> None:
    connect("openai")
    server.play(reply(openai_error(said), 400))
    value = {"answer_limit": "max_completion_tokens", "sampling": "omit"}[key]
    fails(ask, "RequestRefusedError", f"--set configs.{key}={value}", 5)


def test_a_value_that_is_too_large_is_not_a_field_refused(
    server: Server, connect: Connect, ask: Ask
) -> None:
    connect("openai")
    said = "max_tokens is too large: 256. This model supports at most 128 completion tokens."
    server.play(reply(openai_error(said, param="max_tokens", code="invalid_value"), 400))
    with pytest.raises(UserErrorException) as caught:
        ask()
    assert "answer_limit" not in str(caught.value)
