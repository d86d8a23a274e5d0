"""The three request and reply shapes in use, each as a pair of functions.

A ``score``
    Catalog fine-tunes on Azure ML managed endpoints. A 200 can be a failure there.
    https://learn.microsoft.com/azure/machine-learning/how-to-deploy-models-phi-3
B ``mlflow``
    MLflow no-code deployments.
    https://learn.microsoft.com/azure/machine-learning/how-to-deploy-mlflow-models-online-endpoints
C ``openai``
    Serverless endpoints, vLLM, llama.cpp and newer Azure containers.
    https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .errors import (
    BadPayloadError,
    ContentBlockedError,
    EmptyReplyError,
    EndpointError,
    EngineError,
    InputError,
    NoOutputError,
)
from .settings import Settings, place
from .status import quoted, special_case

Message = dict[str, str]
"""``{"role": "system" | "user" | "assistant", "content": text}``."""


@dataclass(frozen=True)
class Generation:
    """Sampling settings; temperature 0 is greedy, a negative ``seed`` is not sent.

    Raises:
        InputError: naming the setting that is out of range.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 256
    seed: int = -1

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, good, rule in (
            ("temperature", 0 <= self.temperature <= 2, "from 0 to 2"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
        ):
            if not good:
                raise InputError(f"{name} is {getattr(self, name)}", fix=f"give a value {rule}")


@dataclass(frozen=True)
class Reply:
    """An answer, blanks around it stripped, and what the server tells about it.

    ``finish_reason`` is ``"length"`` where the answer was cut at ``max_new_tokens``, which is
    ordinary in a chat; ``usage`` counts tokens, empty where the contract has none.
    """

    text: str
    finish_reason: str = ""
    usage: dict[str, int] = field(default_factory=dict)
    model: str = ""

    @property
    def truncated(self) -> bool:
        """Whether ``max_new_tokens`` ended the answer, not the model."""
        return self.finish_reason == "length"


def score_body(messages: list[Message], generation: Generation, _: Settings) -> dict[str, Any]:
    """Contract A. Server generations differ in ``max_new_tokens`` and ``max_tokens``: both."""
    parameters = _mlflow_parameters(generation) | {"max_tokens": generation.max_new_tokens}
    if generation.seed >= 0:
        parameters["seed"] = generation.seed
    return {"input_data": {"input_string": messages, "parameters": parameters}}


def mlflow_body(messages: list[Message], generation: Generation, _: Settings) -> dict[str, Any]:
    """Contract B takes text, see :func:`as_text`."""
    return {"input_data": [as_text(messages)], "params": _mlflow_parameters(generation)}


def openai_body(
    messages: list[Message], generation: Generation, settings: Settings
) -> dict[str, Any]:
    """Contract C, not streaming."""
    body: dict[str, Any] = {
        "messages": messages,
        "max_tokens": generation.max_new_tokens,
        "temperature": generation.temperature,
        "top_p": generation.top_p,
        "stream": False,
    }
    if settings.model:
        body["model"] = settings.model
    if generation.seed >= 0:
        body["seed"] = generation.seed
    return body


def as_text(messages: list[Message]) -> str:
    """Messages as one text: a lone message as it is, else ``role: text`` lines and a last
    ``assistant:`` for the model to go on from, since the chat template stays on the server."""
    if len(messages) == 1:
        return messages[0]["content"]
    lines = [f"{message['role']}: {message['content']}" for message in messages]
    return "\n".join([*lines, "assistant:"])


def score_reply(value: Any, _: dict[str, Any], settings: Settings) -> Reply:
    """Contract A's ``{"output": text}``; see the module for what raises."""
    where = place(settings.endpoint)
    if value == {}:
        raise NoOutputError(
            "the endpoint answered {}, as its scoring script does when it raises or the input "
            "is blocked by content safety",
            where,
            "look for the exception in the deployment's log, or rephrase the question",
        )
    if not isinstance(value, dict):
        raise bad_shape(value, "an object with 'output'", settings)
    if value.get("error"):
        raise engine_error(value["error"], settings)
    if not isinstance(value.get("output"), str):
        raise bad_shape(value, "an object with 'output'", settings)
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
    return _reply(text.removeprefix(body["input_data"][0]), None, {}, settings)


def openai_reply(value: Any, _: dict[str, Any], settings: Settings) -> Reply:
    """Contract C's ``choices[0].message.content``."""
    if isinstance(value, dict) and value.get("error"):
        raise engine_error(value["error"], settings)
    choices = value.get("choices") if isinstance(value, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise bad_shape(value, "an object with 'choices'", settings)
    text = message.get("content")
    if not isinstance(text, str) and text is not None:
        raise bad_shape(value, "text in choices[0].message.content", settings)
    return _reply(text or "", choice.get("finish_reason"), value, settings)


def finished(text: str, finish_reason: Any, settings: Settings) -> None:
    """Refuse an answer that was blocked or says nothing.

    Raises:
        ContentBlockedError, EmptyReplyError
    """
    where = place(settings.endpoint)
    if finish_reason == "content_filter":
        raise ContentBlockedError(
            "content safety blocked the answer", where, "rephrase the question"
        )
    if not text.strip():
        fix = "ask again; raise max_new_tokens, or check the model and its chat template"
        raise EmptyReplyError("the model's answer is empty", where, fix)


def engine_error(error: Any, settings: Settings) -> EndpointError:
    """The error object inside a 200 as an exception."""
    message = error.get("message") if isinstance(error, dict) else error
    words = quoted(str(message or "no message"), settings.key)
    where = place(settings.endpoint)
    return special_case(json.dumps(error), f", it says: {words}", where) or EngineError(
        f"the engine reports: {words}", where, "see the endpoint's log"
    )


def bad_shape(value: Any, expected: str, settings: Settings) -> BadPayloadError:
    """The error for JSON of another contract; says the shape, not the content."""
    shape = f"an object with keys {sorted(map(str, value))[:8]}" if isinstance(value, dict) else ""
    return BadPayloadError(
        f"the reply is {quoted(shape, settings.key) or 'of type ' + type(value).__name__}"
        f", not {expected}",
        place(settings.endpoint),
        f"check the connection's 'contract', now {settings.contract}",
    )


def _mlflow_parameters(generation: Generation) -> dict[str, Any]:
    return {
        "temperature": generation.temperature,
        "top_p": generation.top_p,
        "max_new_tokens": generation.max_new_tokens,
        "do_sample": generation.temperature > 0,
    }


def _reply(text: str, reason: Any, value: dict[str, Any], settings: Settings) -> Reply:
    finished(text, reason, settings)
    usage = value.get("usage")
    counts = usage.items() if isinstance(usage, dict) else ()
    model = value.get("model")
    return Reply(
        text=text.strip(),
        finish_reason=reason if isinstance(reason, str) else "",
        usage={name: count for name, count in counts if isinstance(count, int)},
        model=model if isinstance(model, str) else "",
    )


Body = Callable[[list[Message], Generation, Settings], dict[str, Any]]
Parse = Callable[[Any, dict[str, Any], Settings], Reply]
CONTRACTS: dict[str, tuple[Body, Parse]] = {
    "score": (score_body, score_reply),
    "mlflow": (mlflow_body, mlflow_reply),
    "openai": (openai_body, openai_reply),
}
