"""The two scoring contracts as types: what a request may hold, what a reply looks like.

``/score`` is the chat contract of catalog fine-tunes on Azure ML managed endpoints, and
``/v1/chat/completions`` is OpenAI's. llama.cpp accepts nearly anything in silence (no messages,
unknown roles, negative temperatures), so everything is checked here before it is asked.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator

from setup.local.endpoint.errors import ApiError

DEFAULT_NEW_TOKENS = 256

Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
TopP = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=-1, le=2**32 - 1)]
NewTokens = Annotated[int, Field(ge=1, le=131_072, strict=True)]


class Message(BaseModel):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str

    @field_validator("content", mode="before")
    @classmethod
    def _join_text_parts(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        parts = [part.get("text") for part in value if isinstance(part, dict)]
        texts = [part for part in parts if isinstance(part, str)]
        return "".join(texts) if len(texts) == len(value) else value


class Parameters(BaseModel):
    """Generation settings of ``/score``; both spellings of the token limit are in use."""

    max_new_tokens: NewTokens = Field(
        default=DEFAULT_NEW_TOKENS, validation_alias=AliasChoices("max_new_tokens", "max_tokens")
    )
    temperature: Temperature = 0.7
    top_p: TopP = 1.0
    do_sample: bool = True
    seed: Seed | None = None
    stop: list[str] | str | None = None


class InputData(BaseModel):
    """``input_string`` is a flat list of messages."""

    input_string: list[Message] = Field(min_length=1)
    parameters: Parameters = Parameters()


class ScoreRequest(BaseModel):
    """The body of ``/score``."""

    input_data: InputData

    def engine_body(self) -> dict[str, Any]:
        """The same request as the engine takes it."""
        given = self.input_data.parameters
        body = given.model_dump(exclude_none=True, exclude={"max_new_tokens", "do_sample"})
        if not given.do_sample:
            body["temperature"] = 0.0
        messages = [message.model_dump() for message in self.input_data.input_string]
        return {"messages": messages, "max_tokens": given.max_new_tokens, **body}


class ChatRequest(BaseModel):
    """The body of ``/v1/chat/completions``; what the engine would misread is left out."""

    model_config = ConfigDict(extra="ignore")

    messages: list[Message] = Field(min_length=1)
    model: str | None = None
    max_tokens: NewTokens = Field(
        default=DEFAULT_NEW_TOKENS,
        validation_alias=AliasChoices("max_completion_tokens", "max_tokens"),
    )
    temperature: Temperature = 0.7
    top_p: TopP = 1.0
    stream: bool = False
    stream_options: dict[str, bool] | None = None
    n: Literal[1] = 1
    seed: Seed | None = None
    stop: list[str] | str | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: dict[str, Any] | None = None

    def engine_body(self) -> dict[str, Any]:
        """The same request as the engine takes it."""
        return self.model_dump(exclude_none=True, exclude={"n", "model"})


class TokenizeRequest(BaseModel):
    """The body of ``/tokenize``, in vLLM's shape: a conversation or a bare text."""

    messages: list[Message] | None = Field(default=None, min_length=1)
    prompt: str | None = None


def parse_body(schema: type[BaseModel], raw: bytes) -> Any:
    """``raw`` as an instance of ``schema``.

    Raises:
        ApiError: 400 when it is not JSON, 422 naming the field that is not as expected.
    """
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is not JSON: {error}") from None
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"]) or "body"
        raise ApiError(422, f"{where}: {problem['msg']}") from None


def score_reply(completion: dict[str, Any], deployment: str) -> dict[str, Any]:
    """A chat completion in the shape ``/score`` answers with."""
    choice = completion["choices"][0]
    return {
        "output": choice["message"]["content"],
        "message": {"role": "assistant", "content": choice["message"]["content"]},
        "finish_reason": choice["finish_reason"],
        "usage": completion["usage"],
        "model": deployment,
        "id": completion["id"],
    }
