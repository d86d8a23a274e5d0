"""The two scoring contracts as types: what a request may hold, what a reply looks like.

``/score`` is the chat contract of catalog fine-tunes on Azure ML managed endpoints, and
``/v1/chat/completions`` is OpenAI's. llama.cpp accepts nearly anything in silence (no messages,
unknown roles, negative temperatures, tools that its template has no place for), so everything is
checked here before it is asked. These classes are the one table of fields: what they do not
declare is refused by name, and ``/swagger.json`` is made from them.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, NoReturn

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from setup.local.endpoint.errors import ApiError
from setup.local.endpoint.schemas import check_size, grammar_for

DEFAULT_NEW_TOKENS = 256
LARGEST_WINDOW = 131_072  # tokens
MOST_GROUPS = 1000  # of a grammar; many more, one in another, crash llama.cpp
# What asks for nothing, in a field that nobody reads.
NOTHING: tuple[Any, ...] = (None, [], {})

Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=-1, le=2**32 - 1)]
NewTokens = Annotated[int, Field(ge=1, le=LARGEST_WINDOW)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Repetition = Annotated[float, Field(gt=0, le=10)]
Bias = Annotated[float, Field(ge=-100, le=100)]
TokenId = Annotated[str, Field(pattern="^[0-9]{1,9}$")]


class Part(BaseModel):
    """A part of a request: null is as absent, and what it does not declare is refused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nothing(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        known = {field.alias or name for name, field in cls.model_fields.items()}
        return {
            name: content
            for name, content in value.items()
            if content is not None and (name in known or content not in NOTHING)
        }


class TextPart(Part):
    """A piece of a turn's text."""

    type: Literal["text"]
    text: str


def _join_text_parts(value: Any) -> Any:
    if not isinstance(value, list) or not value:
        return value
    for number, part in enumerate(value):
        kind = part.get("type") if isinstance(part, dict) else part
        if kind != "text":
            raise ValueError(f"part {number} is {kind!r}, and the model reads text alone")
    return "".join(TextPart.model_validate(part).text for part in value)


def _known_role(value: Any) -> Any:
    if value in ("tool", "function"):
        raise ValueError(f"a turn of role {value!r} is refused: tools are not supported")
    return "system" if value == "developer" else value


Role = Literal["system", "user", "assistant"]
AnyRole = Literal["system", "developer", "user", "assistant"]


class Message(Part):
    """One turn of a conversation."""

    role: Annotated[Role, BeforeValidator(_known_role, json_schema_input_type=AnyRole)]
    content: Annotated[
        str,
        BeforeValidator(
            _join_text_parts,
            json_schema_input_type=str | Annotated[list[TextPart], Field(min_length=1)],
        ),
    ]
    reasoning_content: str | None = None

    def as_sent(self) -> dict[str, Any]:
        """The turn as the engine takes it."""
        return self.model_dump(exclude_none=True)


class TextFormat(Part):
    """Any text."""

    type: Literal["text"]


class ObjectFormat(Part):
    """A JSON object."""

    type: Literal["json_object"]
    schema_: dict[str, Any] = Field(default={"type": "object"}, alias="schema")


class NamedSchema(Part):
    """A JSON schema as OpenAI wraps it; every schema is obeyed, ``strict`` or not."""

    name: str = ""
    description: str = ""
    strict: bool = True
    schema_: dict[str, Any] = Field(alias="schema")


class SchemaFormat(Part):
    """JSON of a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[TextFormat | ObjectFormat | SchemaFormat, Field(discriminator="type")]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Stop = Annotated[str, Field(min_length=1)]


class Sampling(Part):
    """How the next token is chosen, and what the answer is held to."""

    max_tokens: NewTokens | None = None
    temperature: Temperature = 0.7
    top_p: Share = 1.0
    top_k: Annotated[int, Field(ge=-1)] = 40
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.05
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    repetition_penalty: Repetition = 1.0
    seed: Seed | None = None
    stop: Annotated[
        list[Stop], BeforeValidator(_as_list, json_schema_input_type=Stop | list[Stop])
    ] = []
    logit_bias: dict[TokenId, Bias] = {}
    response_format: ResponseFormat | None = None
    json_schema: dict[str, Any] | None = None
    grammar: Annotated[str, Field(min_length=1, max_length=20_000)] | None = None

    @model_validator(mode="after")
    def _one_constraint(self) -> Sampling:
        formatted = self.response_format is not None and self.response_format.type != "text"
        constraints = [formatted, self.json_schema is not None, self.grammar is not None]
        if sum(constraints) > 1:
            raise ValueError("give one of response_format, json_schema and grammar")
        if self.grammar and self.grammar.startswith("%"):
            raise ValueError("grammar: llama.cpp's GBNF is honoured, no other notation")
        if self.grammar and self.grammar.count("(") > MOST_GROUPS:
            raise ValueError(f"grammar: more than {MOST_GROUPS} groups")
        check_size(self.schema_asked)
        return self

    def sampling_body(self, new_tokens: int | None) -> dict[str, Any]:
        """These fields as the engine takes them."""
        copied = {"temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty"}
        body = self.model_dump(include=copied)
        body["max_tokens"] = new_tokens or DEFAULT_NEW_TOKENS
        body["top_k"] = max(0, self.top_k)
        if self.repetition_penalty != 1:
            # Over the whole conversation, as elsewhere; llama.cpp looks back 64 tokens.
            body |= {"repeat_penalty": self.repetition_penalty, "repeat_last_n": LARGEST_WINDOW}
        rest = {"seed": self.seed, "stop": self.stop, "logit_bias": self.logit_bias}
        body |= {name: value for name, value in rest.items() if value not in NOTHING}
        grammar = self.grammar or (grammar_for(self.schema_asked) if self.schema_asked else None)
        return body | ({"grammar": grammar} if grammar else {})

    @property
    def schema_asked(self) -> dict[str, Any] | None:
        """The JSON schema that the answer must have, None where it may be any text."""
        match self.response_format:
            case ObjectFormat(schema_=schema):
                return schema
            case SchemaFormat(json_schema=named):
                return named.schema_
        return self.json_schema


def _agreed(**spellings: int | None) -> int | None:
    values = {value for value in spellings.values() if value is not None}
    if len(values) > 1:
        raise ValueError(f"{' and '.join(spellings)} differ")
    return values.pop() if values else None


class Parameters(Sampling):
    """Generation settings of ``/score``; both spellings of the token limit are in use."""

    max_new_tokens: NewTokens | None = None
    do_sample: bool = True
    return_full_text: Literal[False] = False

    @model_validator(mode="after")
    def _one_limit(self) -> Parameters:
        _agreed(max_new_tokens=self.max_new_tokens, max_tokens=self.max_tokens)
        return self


class InputData(Part):
    """``input_string`` is a flat list of messages."""

    input_string: list[Message] = Field(min_length=1)
    parameters: Parameters = Parameters()


class ScoreRequest(Part):
    """The body of ``/score``."""

    input_data: InputData

    def engine_body(self) -> dict[str, Any]:
        """The same request as the engine takes it."""
        given = self.input_data.parameters
        body = given.sampling_body(given.max_new_tokens or given.max_tokens)
        if not given.do_sample:
            body["temperature"] = 0.0
        return {"messages": [turn.as_sent() for turn in self.input_data.input_string], **body}


class StreamOptions(Part):
    """What a stream holds beside the answer."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class ChatRequest(Sampling):
    """The body of ``/v1/chat/completions``.

    Below ``top_logprobs`` are labels, which change nothing, and fields of which only the value
    that changes nothing is accepted.
    """

    messages: list[Message] = Field(min_length=1)
    model: str | None = None
    max_completion_tokens: NewTokens | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    user: str = ""
    metadata: dict[str, Any] = {}
    safety_identifier: str = ""
    prompt_cache_key: str = ""
    n: Literal[1] = 1
    best_of: Literal[1] = 1
    echo: Literal[False] = False
    store: Literal[False] = False
    service_tier: Literal["auto", "default"] = "auto"
    modalities: list[Literal["text"]] = ["text"]
    tool_choice: Literal["none", "auto"] = "auto"
    function_call: Literal["none", "auto"] = "auto"

    @model_validator(mode="after")
    def _one_limit(self) -> ChatRequest:
        _agreed(max_completion_tokens=self.max_completion_tokens, max_tokens=self.max_tokens)
        return self

    @model_validator(mode="after")
    def _logprobs_for_top_logprobs(self) -> ChatRequest:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs: set logprobs to true as well")
        return self

    def engine_body(self) -> dict[str, Any]:
        """The same request as the engine takes it."""
        body = self.sampling_body(self.max_completion_tokens or self.max_tokens)
        body |= {"messages": [turn.as_sent() for turn in self.messages], "stream": self.stream}
        if self.stream_options:
            body["stream_options"] = {"include_usage": self.stream_options.include_usage}
        if self.logprobs:
            body |= {"logprobs": True, "top_logprobs": self.top_logprobs or 0}
        return body


class TokenizeRequest(Part):
    """The body of ``/tokenize``, in vLLM's shape: a conversation or a bare text."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["messages"], "properties": {"messages": {"type": "array"}}},
                {"required": ["prompt"], "properties": {"prompt": {"type": "string"}}},
            ]
        }
    )

    messages: list[Message] | None = Field(default=None, min_length=1)
    prompt: str | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> TokenizeRequest:
        if (self.messages is None) == (self.prompt is None):
            raise ValueError("give either messages or prompt")
        return self


def parse_body(schema: type[BaseModel], raw: bytes) -> Any:
    """``raw`` as an instance of ``schema``.

    Raises:
        ApiError: 400 when it is not JSON, 422 naming the field that is not as expected.
    """
    try:
        content = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is not JSON: {error}") from None
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        raise _refusal(error) from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it has no {name}")


def _refusal(error: ValidationError) -> ApiError:
    """The fields that are not honoured, else the first one that is not as expected."""
    problems = error.errors(include_input=False, include_url=False)
    unsupported = [one for one in problems if one["type"] == "extra_forbidden"]
    names = [".".join(map(str, one["loc"])) for one in unsupported or problems[:1]]
    message = problems[0]["msg"].removeprefix("Value error, ")
    if unsupported:
        message = "not supported, and refused rather than ignored (docs/operations.md: Fields)"
    where = ", ".join(names) or "body"
    return ApiError(422, f"{where}: {message}", param=names[0] or None)


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
