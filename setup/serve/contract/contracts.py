"""The two scoring contracts as types: what a request may hold, what a reply looks like.

``/score`` is the chat contract of catalog fine-tunes on Azure ML managed endpoints, and
``/v1/chat/completions`` is OpenAI's. With ``fields`` these classes are the one table of fields:
requests are checked by them and ``/swagger.json`` is made from them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from setup.serve.contract import fields
from setup.serve.contract.error_reply import ApiError
from setup.serve.contract.messages import Messages, Part
from setup.serve.contract.tool_calls import Choice, Tools, Wish, wish_for

_LONGEST_NAME = 100  # characters


class Parameters(fields.Sampling):
    """Generation settings of ``/score``; both spellings of the token limit are in use."""

    max_new_tokens: fields.NewTokens | None = None
    do_sample: bool = True
    return_full_text: fields.No = False


class InputData(Part):
    """``input_string`` is a flat list of messages."""

    input_string: Messages
    parameters: Parameters = Parameters()


class ScoreRequest(Part):
    """The body of ``/score``."""

    input_data: InputData

    def engine_body(self) -> dict[str, Any]:
        """Return the request as the engine takes it, in the shape of its chat completions."""
        parameters = self.input_data.parameters
        body = parameters.sampling_body()
        if not parameters.do_sample:
            body["temperature"] = 0.0
        return {"messages": [turn.as_sent() for turn in self.input_data.input_string], **body}


class StreamOptions(Part):
    """The parts of a stream beside the answer."""

    include_usage: bool = False
    include_obfuscation: fields.No = False


class ChatRequest(fields.Sampling):
    """The body of ``/v1/chat/completions``.

    Below ``parallel_tool_calls`` are labels, which change nothing, and fields of which only the
    value that changes nothing is accepted.
    """

    messages: Messages
    model: str | None = None
    max_completion_tokens: fields.NewTokens | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    n: Annotated[int, Field(ge=1, le=8)] = 1
    tools: Tools = Field(default=[])
    tool_choice: Choice = "auto"
    parallel_tool_calls: bool = True
    user: str = ""
    metadata: dict[str, Any] = Field(default={})
    safety_identifier: str = ""
    prompt_cache_key: str = ""
    best_of: fields.One = 1
    echo: fields.No = False
    store: fields.No = False
    service_tier: Literal["auto", "default"] = "auto"
    modalities: list[Literal["text"]] = Field(default=["text"])
    function_call: Literal["none", "auto"] = "auto"

    @model_validator(mode="after")
    def _fields_agree(self) -> ChatRequest:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs: set logprobs to true as well")
        if self.stream_options and not self.stream:
            raise ValueError("stream_options: set stream to true as well")
        if not self.tools:
            if self.tool_choice not in ("none", "auto"):
                raise ValueError("tool_choice: there are no tools to choose from")
            if "parallel_tool_calls" in self.model_fields_set:
                raise ValueError("parallel_tool_calls: there are no tools to call")
        wish = self.wish
        if wish and wish.schemas and (self.grammar or self.logprobs):
            name = "grammar" if self.grammar else "logprobs"
            raise ValueError(f"{name}: not together with tools, unless tool_choice is none")
        return self

    @property
    def wish(self) -> Wish | None:
        """The tools that the answer may call, None where it is told of none."""
        if not self.tools:
            return None
        return wish_for(self.tools, self.tool_choice, self.parallel_tool_calls, self.schema_asked)

    def engine_body(self) -> dict[str, Any]:
        """Return the request as the engine takes it, without what it need not know."""
        body = self.sampling_body()
        body |= {"messages": [turn.as_sent() for turn in self.messages], "stream": self.stream}
        if self.stream_options:
            body["stream_options"] = {"include_usage": self.stream_options.include_usage}
        if self.logprobs:
            # Asked for none of the others, the engine leaves out the token that it chose as well.
            body |= {"logprobs": True, "top_logprobs": max(1, self.top_logprobs or 0)}
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

    messages: Messages | None = None
    prompt: str | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> TokenizeRequest:
        if (self.messages is None) == (self.prompt is None):
            raise ValueError("give either messages or prompt")
        return self


def parse_body(schema: type[BaseModel], raw: bytes) -> Any:
    """``raw`` as an instance of ``schema``.

    ApiError 400 when it is not JSON, or naming the field that is not as expected.
    """
    try:
        text = raw.decode("utf-8-sig")
        content = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = str(error).partition(";")[0]  # what follows is advice to who writes Python
        raise ApiError(400, f"the body is not JSON: {reason}") from None
    _refuse_half_characters(text, content)
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
    # The fields that are not honoured, else the first one that is not as expected.
    unsupported = [problem for problem in problems if problem["type"] == "extra_forbidden"]
    names = [_path(problem, content) for problem in unsupported or problems[:1]]
    message = problems[0]["msg"].removeprefix("Value error, ")
    if unsupported:
        message = "not supported, and refused rather than ignored (docs/operations.md: Fields)"
    # A rule about several fields begins with the one that it is about.
    param = names[0] or message.partition(":")[0] * (": " in message)
    place = f"{', '.join(names) or 'body'}: " if names[0] or not param else ""
    code = "unsupported_parameter" if unsupported else "invalid_value"
    raise ApiError(400, f"{place}{message}", code=code, param=param or None)


def _refuse_half_characters(raw: str, content: Any) -> None:
    """Refuse what no text can hold: half of a pair of code units, written as an escape."""
    if "\\ud" not in raw.lower():
        return
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        message = f"the body holds half of a character, \\u{ord(half):x}, without the other half"
        raise ApiError(400, message, code="invalid_value") from None
    except RecursionError:
        raise ApiError(400, "the body is nested too deeply") from None


def _path(problem: ErrorDetails, content: Any) -> str:
    """The field that a problem is about, by the names that the client wrote.

    What pydantic adds of its own is left out: which kind it took a value for, ``[key]``.
    """
    names: list[str] = []
    for part in problem["loc"]:
        is_key = isinstance(content, dict) and part in content
        if is_key or (isinstance(content, list) and isinstance(part, int) and part < len(content)):
            content = content[part]
            names.append(str(part))
    last = str(problem["loc"][-1]) if problem["loc"] else ""
    if problem["type"] in ("missing", "extra_forbidden") and names[-1:] != [last]:
        names.append(last)
    return ".".join(_shown(name) for name in names)


def _shown(name: str) -> str:
    """A name in one line, of a bearable length."""
    bare = "".join(sign if sign.isprintable() else "?" for sign in name[:_LONGEST_NAME])
    return bare + "..." * (len(name) > _LONGEST_NAME)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it has no {name}")


def score_reply(completion: dict[str, Any], deployment: str) -> dict[str, Any]:
    """A chat completion in the shape ``/score`` answers with."""
    choice = completion["choices"][0]
    text = choice["message"]["content"]
    return {
        "output": text,
        "message": {"role": "assistant", "content": text},
        "finish_reason": choice["finish_reason"],
        "usage": completion["usage"],
        "model": deployment,
        "id": completion["id"],
    }


def usage_of(timings: Mapping[str, Any]) -> dict[str, Any]:
    """The field ``usage`` as llama.cpp's counts tell it, which stand in ``timings``."""
    cached = int(timings.get("cache_n", 0))
    prompt = cached + int(timings.get("prompt_n", 0))
    completion = int(timings.get("predicted_n", 0))
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
