"""Azure's client of chat models: whole, streamed, asynchronous, a schema, a tool, errors."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from azure.ai.inference import ChatCompletionsClient, aio
from azure.ai.inference.models import (
    ChatCompletionsNamedToolChoice,
    ChatCompletionsNamedToolChoiceFunction,
    ChatCompletionsToolDefinition,
    FunctionDefinition,
    JsonSchemaFormat,
    UserMessage,
)
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError

BASE, KEY = f"{os.environ['ENDPOINT']}/v1", AzureKeyCredential(os.environ["ENDPOINT_KEY"])
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}},
    "required": ["name"],
    "additionalProperties": False,
}
ASKED: Any = {"messages": [UserMessage("Say hi")], "temperature": 0, "max_tokens": 48}


def check_text(client: Any) -> None:
    """The same text whole, in a stream, and asked for asynchronously."""
    text = client.complete(**ASKED).choices[0].message.content
    pieces = client.complete(**ASKED, stream=True)
    assert "".join(p.choices[0].delta.content or "" for p in pieces if p.choices) == text

    async def ask() -> Any:
        async with aio.ChatCompletionsClient(BASE, KEY) as asking:
            return (await asking.complete(**ASKED)).choices[0].message.content

    assert asyncio.run(ask()) == text


def check_held(client: Any) -> None:
    """A schema, and a function that must be called."""
    wanted = JsonSchemaFormat(name="person", schema=SCHEMA, strict=True)
    said = client.complete(**ASKED, response_format=wanted).choices[0].message.content
    assert json.loads(said).keys() == {"name"}
    function = FunctionDefinition(name="greet", description="Greet", parameters=SCHEMA)
    choice = ChatCompletionsNamedToolChoice(
        function=ChatCompletionsNamedToolChoiceFunction(name="greet")
    )
    tools = [ChatCompletionsToolDefinition(function=function)]
    answer = client.complete(**ASKED, tools=tools, tool_choice=choice).choices[0]
    assert answer.finish_reason == "tool_calls"
    assert json.loads(answer.message.tool_calls[0].function.arguments).keys() == {"name"}


def check_errors(client: Any) -> None:
    """The class of a failure, its code and its words."""
    stranger = ChatCompletionsClient(BASE, AzureKeyCredential("wrong"))
    for asking, fields, kind, code in (
        (stranger, {}, ClientAuthenticationError, "invalid_api_key"),
        (client, {"model": "gpt-4"}, HttpResponseError, "model_not_found"),
        (client, {"model_extras": {"top_a": 1}}, HttpResponseError, "unsupported_parameter"),
    ):
        try:
            asking.complete(**{**ASKED, **fields})
        except kind as error:
            told: Any = error.error
            assert told.code == code, error
            assert told.message
        else:
            raise AssertionError(f"{fields} was answered")


if __name__ == "__main__":
    ours = ChatCompletionsClient(BASE, KEY)
    for check in (check_text, check_held, check_errors):
        check(ours)
