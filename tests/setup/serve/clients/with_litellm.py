"""Litellm as its users ask an OpenAI-compatible server: whole, streamed, schema, tool, errors."""

from __future__ import annotations

import json
import os
from typing import Any

import litellm

ASKED: Any = {
    "model": "openai/base",
    "messages": [{"role": "user", "content": "Say hi"}],
    "temperature": 0,
    "max_tokens": 48,
    "api_base": f"{os.environ['ENDPOINT']}/v1",
    "api_key": os.environ["ENDPOINT_KEY"],
    "num_retries": 0,
}
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}},
    "required": ["name"],
    "additionalProperties": False,
}


def check_answers() -> None:
    """Text, a stream of it, a schema, a function that must be called."""
    text = litellm.completion(**ASKED).choices[0].message.content
    pieces = litellm.completion(**ASKED, stream=True)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == text
    vllm = litellm.completion(**{**ASKED, "model": "hosted_vllm/base"})
    assert vllm.choices[0].message.content == text
    held = {"type": "json_schema", "json_schema": {"name": "it", "schema": SCHEMA, "strict": True}}
    said = litellm.completion(**ASKED, response_format=held).choices[0].message.content
    assert json.loads(said).keys() == {"name"}
    tool = {"type": "function", "function": {"name": "greet", "parameters": SCHEMA}}
    called = litellm.completion(**ASKED, tools=[tool], tool_choice="required").choices[0]
    assert called.message.tool_calls[0].function.name == "greet"


def check_errors() -> None:
    """The class of each failure."""
    long = [{"role": "user", "content": "word " * 4000}]
    for fields, kind in (
        ({"api_key": "wrong"}, litellm.AuthenticationError),
        ({"model": "openai/gpt-4"}, litellm.NotFoundError),
        ({"messages": long}, litellm.ContextWindowExceededError),
        ({"temperature": 9}, litellm.BadRequestError),
    ):
        try:
            litellm.completion(**{**ASKED, **fields})
        except kind:
            continue
        raise AssertionError(f"{fields} was answered")


if __name__ == "__main__":
    litellm.suppress_debug_info = True
    check_answers()
    check_errors()
