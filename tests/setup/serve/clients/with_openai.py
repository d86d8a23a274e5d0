"""OpenAI's own client: whole, streamed, asynchronous, tools, schemas, log probabilities, errors."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import openai
from pydantic import BaseModel, Field

BASE, KEY = f"{os.environ['ENDPOINT']}/v1", os.environ["ENDPOINT_KEY"]
ASKED: Any = {
    "model": "base",
    "messages": [{"role": "user", "content": "Tell me of Anna, who is 33."}],
    "temperature": 0,
    "max_tokens": 64,
}


class Person(BaseModel):
    """Someone."""

    name: str = Field(max_length=12)
    age: int = Field(ge=0, le=120)


def check_text(client: Any) -> None:
    """The same text whole, in a stream, and asked for asynchronously."""
    text = client.chat.completions.create(**ASKED).choices[0].message.content
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(**ASKED, stream=True, stream_options=options))
    told = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert told == text
    assert chunks[-1].usage.completion_tokens > 0

    async def ask() -> tuple[str | None, str]:
        asking: Any
        async with openai.AsyncOpenAI(base_url=BASE, api_key=KEY) as asking:
            whole = await asking.chat.completions.create(**ASKED)
            pieces = await asking.chat.completions.create(**ASKED, stream=True)
            joined = "".join([piece.choices[0].delta.content or "" async for piece in pieces])
            return whole.choices[0].message.content, joined

    assert asyncio.run(ask()) == (text, text)


def check_schema(client: Any) -> None:
    """A person as ``parse`` makes one, whole and streamed."""
    parsed = client.chat.completions.parse(**ASKED, response_format=Person).choices[0].message
    assert parsed.parsed
    with client.chat.completions.stream(**ASKED, response_format=Person) as events:
        last = [event.type for event in events]
        final = events.get_final_completion().choices[0].message.parsed
    assert "content.done" in last
    assert final == parsed.parsed


def check_tools(client: Any) -> None:
    """A call, its result, and the answer after it; the same call in a stream."""
    tool = openai.pydantic_function_tool(Person)
    asked = {**ASKED, "tools": [tool], "tool_choice": "required", "parallel_tool_calls": False}
    message = client.chat.completions.parse(**asked).choices[0].message
    (call,) = message.tool_calls
    assert isinstance(call.function.parsed_arguments, Person)
    with client.chat.completions.stream(**asked) as events:
        types = {event.type for event in events}
        streamed = events.get_final_completion().choices[0].message.tool_calls[0]
    assert "tool_calls.function.arguments.done" in types
    assert streamed.function.arguments == call.function.arguments
    result = {"role": "tool", "tool_call_id": call.id, "content": "kept"}
    turns = [*ASKED["messages"], message.model_dump(exclude_none=True), result]
    turns[1]["tool_calls"][0]["function"].pop("parsed_arguments", None)
    turns[1].pop("parsed", None)
    after = client.chat.completions.create(**{**ASKED, "messages": turns, "tools": [tool]})
    assert after.choices[0].finish_reason in ("stop", "length", "tool_calls")


def check_the_rest(client: Any) -> None:
    """Log probabilities, several answers, the models."""
    asked = {**ASKED, "max_tokens": 3, "n": 2, "logprobs": True, "top_logprobs": 2}
    for choice in client.chat.completions.create(**asked).choices:
        assert [len(row.top_logprobs) for row in choice.logprobs.content] == [2, 2, 2]
    assert "base" in [model.id for model in client.models.list()]
    assert client.models.retrieve("base").created > 0


def check_errors(client: Any) -> None:
    """The class of each failure, and what it names."""
    long = [{"role": "user", "content": "word " * 4000}]
    stranger = openai.OpenAI(base_url=BASE, api_key="wrong", max_retries=0)
    for asking, fields, kind, code in (
        (stranger, {}, openai.AuthenticationError, "invalid_api_key"),
        (client, {"model": "gpt-4"}, openai.NotFoundError, "model_not_found"),
        (client, {"messages": long}, openai.BadRequestError, "context_length_exceeded"),
        (client, {"reasoning_effort": "low"}, openai.BadRequestError, "unsupported_parameter"),
        (client, {"temperature": 9}, openai.BadRequestError, "invalid_value"),
    ):
        try:
            asking.chat.completions.create(**{**ASKED, **fields})
        except kind as error:
            assert error.code == code, error
            assert error.type
        else:
            raise AssertionError(f"{fields} was answered")


if __name__ == "__main__":
    ours = openai.OpenAI(base_url=BASE, api_key=KEY, max_retries=0)
    for check in (check_text, check_schema, check_tools, check_the_rest, check_errors):
        check(ours)
