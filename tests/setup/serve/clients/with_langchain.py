"""Langchain's class for chat models on Azure ML endpoints, by the contract of ``/score``."""

from __future__ import annotations

import os
from typing import Any

from langchain_community.chat_models.azureml_endpoint import (
    AzureMLChatOnlineEndpoint,
    AzureMLEndpointApiType,
    CustomOpenAIChatContentFormatter,
)
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

TURNS = [
    SystemMessage(content="Be brief."),
    HumanMessage(content="My name is Ada."),
    AIMessage(content="Hello Ada."),
    HumanMessage(content="What is my name?"),
]


def model(key: str, **fields: Any) -> Any:
    """Return a chat model that asks ``/score``."""
    return AzureMLChatOnlineEndpoint(
        endpoint_url=os.environ["ENDPOINT"] + "/score",
        endpoint_api_type=AzureMLEndpointApiType.dedicated.value,
        endpoint_api_key=key,
        content_formatter=CustomOpenAIChatContentFormatter(),
        model_kwargs={"temperature": 0, **fields},
    )


if __name__ == "__main__":
    key = os.environ["ENDPOINT_KEY"]
    said = model(key, max_new_tokens=24).invoke(TURNS).content
    assert said
    assert model(key, max_tokens=24).invoke(TURNS).content == said
    for wrong in (model("wrong"), model(key, num_beams=2)):
        try:
            wrong.invoke(TURNS)
        except Exception as error:  # noqa: BLE001 - whatever it makes of a refusal
            assert "401" in str(error) or "400" in str(error), error
        else:
            raise AssertionError("it was answered")
