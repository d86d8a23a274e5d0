"""The fields by which an answer is chosen, that both contracts share: sampling, constraints."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from setup.serve.contract.grammars import check_gbnf, check_size, grammar_for
from setup.serve.contract.messages import NOTHING, Part

_DEFAULT_NEW_TOKENS = 256
_LIMITS = ("max_completion_tokens", "max_new_tokens", "max_tokens")
_LARGEST_WINDOW = 131_072  # tokens

Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=-1, le=2**32 - 2)]  # llama.cpp takes 2**32 - 1 for none
NewTokens = Annotated[int, Field(ge=1, le=_LARGEST_WINDOW)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Repetition = Annotated[float, Field(ge=0.01, le=10)]
Bias = Annotated[float, Field(ge=-100, le=100)]
One = Annotated[int, Field(ge=1, le=1)]
TokenId = Annotated[str, Field(pattern="^[0-9]{1,9}$")]


def _no(value: bool) -> bool:
    if value:
        raise ValueError("true is not supported")
    return value


# A literal would take 0 for false.
No = Annotated[bool, AfterValidator(_no), WithJsonSchema({"const": False})]


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
    """The options by which the next token is chosen, and those the answer is held to."""

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
    ] = Field(default=[])
    logit_bias: dict[TokenId, Bias] = Field(
        default={}, json_schema_extra={"additionalProperties": False}
    )
    response_format: ResponseFormat | None = None
    json_schema: dict[str, Any] | None = None
    grammar: Annotated[str, Field(min_length=1, max_length=20_000)] | None = None

    @model_validator(mode="after")
    def _one_constraint(self) -> Sampling:
        formatted = self.response_format is not None and self.response_format.type != "text"
        constraints = [formatted, self.json_schema is not None, self.grammar is not None]
        if sum(constraints) > 1:
            raise ValueError("give one of response_format, json_schema and grammar")
        if self.grammar:
            check_gbnf(self.grammar)
        try:
            check_size(self.schema_asked)
        except ValueError as error:
            raise ValueError(f"{self.constraint}: {error}") from None
        return self

    @model_validator(mode="after")
    def _one_limit(self) -> Sampling:
        limits = self._limits()
        if len(set(limits.values())) > 1:
            raise ValueError(f"{' and '.join(limits)} differ")
        return self

    def _limits(self) -> dict[str, int]:
        """The token limits that are set, of however many spellings there are."""
        limits = {name: getattr(self, name, None) for name in _LIMITS}
        return {name: limit for name, limit in limits.items() if limit is not None}

    def sampling_body(self) -> dict[str, Any]:
        """These fields as the engine takes them."""
        copied = {"temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty"}
        body = self.model_dump(include=copied)
        body["max_tokens"] = next(iter(self._limits().values()), _DEFAULT_NEW_TOKENS)
        body["top_k"] = max(0, self.top_k)
        if self.repetition_penalty != 1:
            # Over the whole conversation, as elsewhere; llama.cpp looks back 64 tokens.
            body |= {"repeat_penalty": self.repetition_penalty, "repeat_last_n": _LARGEST_WINDOW}
        rest = {"seed": self.seed, "stop": self.stop, "logit_bias": self.logit_bias}
        body |= {name: value for name, value in rest.items() if value not in NOTHING}
        schema = self.schema_asked
        grammar = self.grammar if schema is None else grammar_for(schema)
        return body | ({"grammar": grammar} if grammar else {})

    @property
    def constraint(self) -> str:
        """The field that the answer is held to."""
        names = ("json_schema", "grammar")
        return next((name for name in names if getattr(self, name) is not None), "response_format")

    @property
    def schema_asked(self) -> dict[str, Any] | None:
        """The JSON schema that the answer must have, None where it may be any text."""
        if isinstance(self.response_format, SchemaFormat):
            return self.response_format.json_schema.schema_
        return getattr(self.response_format, "schema_", self.json_schema)
