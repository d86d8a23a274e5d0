"""The reply of each scoring contract as one :class:`Reply`, or as the error that it is."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from .errors import (
    BadPayloadError,
    ContentBlockedError,
    EmptyReplyError,
    EndpointError,
    EngineError,
    NoOutputError,
    ReasoningError,
    ToolCallError,
)
from .reasoning import split_reasoning
from .settings import Settings
from .status import limit_hint, quoted, refusal, special_case

_TEXT_PARTS = {"text": "text", "output_text": "text", "refusal": "refusal"}
_THOUGHT_PARTS = ("thinking", "reasoning", "redacted_thinking")
_THOUGHT_FIELDS = ("reasoning_content", "reasoning", "reasoning_details")
_BROKEN_OFF = ("error", "abort", "aborted", "cancelled", "canceled")


@dataclass(frozen=True)
class Reply:
    """An answer, blanks around it stripped, and what the server tells about it.

    ``finish_reason`` is ``"length"`` where the answer was cut at ``max_new_tokens``, which is
    ordinary in a chat; ``usage`` counts tokens, empty where the contract has none; ``reasoning`` is
    what the model thought before it, which no answer shows.
    """

    text: str
    finish_reason: str = ""
    usage: dict[str, int] = field(default_factory=dict)
    model: str = ""
    reasoning: str = ""


def score_reply(value: Any, _: dict[str, Any], settings: Settings) -> Reply:
    """Contract A's ``{"output": text}``; see the module for what raises."""
    if value == {}:
        fix = "look for the exception in the deployment's log, or rephrase the question"
        raise NoOutputError(
            "the endpoint answered {}, as its scoring script does when it raises or the input "
            "is blocked by content safety",
            fix=fix + limit_hint(settings),
        )
    if not isinstance(value, dict):
        raise bad_shape(value, "an object with 'output'", settings)
    if value.get("error"):
        raise engine_error(value["error"], settings)
    if not isinstance(value.get("output"), str):
        raise bad_shape(value, "an object with text in 'output'", settings)
    return _reply(value["output"], value.get("finish_reason"), value, settings)


def mlflow_reply(value: Any, body: dict[str, Any], settings: Settings) -> Reply:
    """Contract B's ``["text"]`` or ``[{"0": "text"}]``, bare or under ``predictions``."""
    if isinstance(value, dict) and value.get("error"):
        raise engine_error(value["error"], settings)
    rows = value.get("predictions") if isinstance(value, dict) else value
    row = rows[0] if isinstance(rows, list) and len(rows) == 1 else None
    text = next(iter(row.values())) if isinstance(row, dict) and len(row) == 1 else row
    if not isinstance(text, str):
        raise bad_shape(value, "a list with one text", settings)
    # MLflow's text-generation flavour repeats the prompt unless the model was logged otherwise.
    asked = body["input_data"]
    prompt = asked[0] if isinstance(asked, list) else asked["input_string"][-1]["content"]
    return _reply(text[len(prompt) :] if text.startswith(prompt) else text, None, {}, settings)


def contract_of(value: Any) -> str:
    """The contract whose shape a reply has, whatever was asked; empty where it is of none."""
    keys = set(value) if isinstance(value, dict) else set()
    rows = value.get("predictions") if isinstance(value, dict) else value
    if isinstance(rows, list) and len(rows) == 1:
        return "mlflow"
    return "openai" if "choices" in keys else "score" if "output" in keys else ""


def openai_reply(value: Any, _: dict[str, Any], settings: Settings) -> Reply:
    """Contract C's ``choices[0].message.content``."""
    if isinstance(value, dict) and value.get("error"):
        raise engine_error(value["error"], settings)
    try:
        choice = value["choices"][0]
        message = choice["message"]
    except (LookupError, TypeError):
        message = None
    if not isinstance(message, dict):
        raise bad_shape(value, "an object with 'choices'", settings)
    said = read_message(message, "choices[0].message", settings)
    return _reply(said.text, choice.get("finish_reason"), value, settings, said)


@dataclass(frozen=True)
class Said:
    """One message or delta of contract C: its text, its thinking, the names of tools it calls."""

    text: str = ""
    reasoning: str = ""
    tools: tuple[str, ...] = ()


def read_message(message: dict[str, Any], where: str, settings: Settings) -> Said:
    """Read what a message or a delta says; a refusal is an answer, too."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [content]
    text, reasoning = "", ""
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else "text"
        if kind in _THOUGHT_PARTS:
            reasoning += json.dumps(part, ensure_ascii=False)
            continue
        piece = part.get(_TEXT_PARTS.get(str(kind), "")) if isinstance(part, dict) else part
        if not isinstance(piece, str) and (piece is not None or part is not None):
            what = "text" if part is content else f"text: it holds a part of type {kind!r:.40},"
            raise bad_shape(message, f"{what} in {where}.content", settings)
        text += piece or ""
    # Of the names for one thing, some servers send two.
    thought = next((message[name] for name in _THOUGHT_FIELDS if message.get(name)), "")
    reasoning += thought if isinstance(thought, str) else json.dumps(thought, ensure_ascii=False)
    refusal = message.get("refusal")
    return Said(text or (refusal if isinstance(refusal, str) else ""), reasoning, _tools(message))


def _tools(message: dict[str, Any]) -> tuple[str, ...]:
    calls = message.get("tool_calls")
    calls = [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    called = [*(call.get("function") for call in calls), message.get("function_call")]
    return tuple(str(call.get("name") or "") for call in called if isinstance(call, dict))


def finished(text: str, finish_reason: Any, settings: Settings, said: Said | None = None) -> None:
    """Refuse an answer that was broken off or blocked, is a tool call, or says nothing."""
    said = said or Said()
    if finish_reason in _BROKEN_OFF:
        what = f"the engine broke the answer off ({finish_reason}) after {len(text)} characters"
        raise EngineError(what, fix="ask again; if it stays, see the endpoint's log")
    if finish_reason == "content_filter":
        what, fix = "content safety blocked the answer", "rephrase the question"
        raise ContentBlockedError(what, fix=fix)
    if said.tools and (finish_reason in ("tool_calls", "function_call") or not text.strip()):
        name = quoted(" ".join(filter(None, said.tools)), settings.key) or "without a name"
        raise ToolCallError(
            f"the model calls a tool ({name}) instead of answering",
            fix="switch tools off where the model is served, or ask a model that answers in text",
        )
    if text.strip():
        return
    if said.reasoning.strip():
        cut = "until its tokens were used up" if finish_reason == "length" else "only"
        raise ReasoningError(
            f"the model thought {cut} and gave no answer",
            fix="raise the chat node's max_new_tokens in flow.dag.yaml (thinking counts), or "
            "switch the model's thinking off where it is served",
        )
    fix = "ask again; raise max_new_tokens, or check the model and its chat template"
    raise EmptyReplyError("the model's answer is empty", fix=fix)


def engine_error(error: Any, settings: Settings) -> EndpointError:
    """The error object inside a 200 as an exception."""
    message = error.get("message") or error.get("detail") if isinstance(error, dict) else error
    words = quoted(str(message or "no message"), settings.key)
    text = json.dumps({"error": error})
    special = special_case(text, f", it says: {words}")
    if special is not None:
        return special
    refused, fix = refusal(text, settings)
    failed = EngineError(f"the engine reports: {words}", fix=fix or "see the endpoint's log")
    failed.refused = refused
    return failed


def bad_shape(value: Any, expected: str, settings: Settings) -> BadPayloadError:
    """The error for JSON of another contract; says the shape, not the content."""
    shape = f"of type {type(value).__name__}"
    if isinstance(value, dict):
        shape = quoted(f"an object with keys {sorted(map(str, value))[:8]}", settings.key)
    contract, now = contract_of(value), "auto" if settings.auto else settings.contract
    fix = f"check the connection's 'contract', now {now}"
    # A connection that says auto has had every contract tried.
    if contract and contract != settings.contract and not settings.auto:
        fix = settings.how_to_set("contract", "auto" if now == "score" else contract)
    return BadPayloadError(f"the reply is {shape}, not {expected}", fix=fix)


def counts_of(value: dict[str, Any]) -> dict[str, int]:
    """The counts in ``usage`` of a reply or a chunk, without what stands among them."""
    usage = value.get("usage")
    counts = usage.items() if isinstance(usage, dict) else ()
    return {name: count for name, count in counts if isinstance(count, int)}


def _reply(
    text: str, reason: Any, value: dict[str, Any], settings: Settings, said: Said | None = None
) -> Reply:
    thought, answer = split_reasoning(text)
    said = said or Said()
    said = replace(said, reasoning="\n".join(filter(None, [said.reasoning, thought])))
    finished(answer, reason, settings, said)
    model = value.get("model")
    return Reply(
        text=answer.strip(),
        finish_reason=reason if isinstance(reason, str) else "",
        usage=counts_of(value),
        model=model if isinstance(model, str) else "",
        reasoning=said.reasoning.strip(),
    )
