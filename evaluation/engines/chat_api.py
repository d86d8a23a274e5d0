"""LLM and prompt nodes: a template as text or as a conversation, and the clients that send it."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jinja2
from jinja2.sandbox import SandboxedEnvironment

# The inputs of an LLM node that are no part of its prompt, with promptflow's types.
PARAMETERS = dict.fromkeys(
    ("temperature", "top_p", "presence_penalty", "frequency_penalty"), "double"
) | {"max_tokens": "int", "seed": "int", "stop": "list", "user": "string"}
PARAMETERS |= {"logit_bias": "object", "response_format": "object"}
NOT_DONE = ("stream", "functions", "function_call", "tools", "tool_choice", "n")
_ROLE = re.compile(
    r"(^\s*#?\s*)(system|user|assistant|function|tool)(\s*:\s*\n)", re.IGNORECASE | re.MULTILINE
)
_NAMED = re.compile(
    r"\s*#{0,2}\s*name\s*:\s*\n\s*(\S+)\s*#{0,2}\s*content\s*:\s*\n?(.*)", re.DOTALL
)
_MASK = "\ue000"  # before a role in a line's own text: there it begins no message
_SECONDS, _RETRIES = 120.0, 3
_JINJA = SandboxedEnvironment(trim_blocks=True, keep_trailing_newline=True)
_SEE = "Error reference: https://platform.openai.com/docs/guides/error-codes/api-errors"


class OpenAIError(Exception):
    """The endpoint of an LLM node failed; class and text are those of promptflow."""


class PromptError(Exception):
    """A template that fails, or that makes no conversation."""


class Prompt(str):
    """The output of a prompt node; ``masked`` tells the line's own text from the template's."""

    __slots__ = ("masked",)
    masked: str


def mask(value: Any) -> Any:
    """``value`` of a line, with no role in it that a conversation would be split at."""
    if isinstance(value, str):
        return _ROLE.sub(rf"\1{_MASK}\2\3", value)
    if isinstance(value, dict):
        return {key: mask(item) for key, item in value.items()}
    return [mask(item) for item in value] if isinstance(value, list) else value


def render_prompt(template: str, **inputs: Any) -> Prompt:
    """The output of a prompt node."""
    masked = _render(template, inputs)
    prompt = Prompt(masked.replace(_MASK, ""))
    prompt.masked = masked
    return prompt


def as_messages(template: str, inputs: Mapping[str, Any]) -> list[dict[str, str]]:
    """The conversation that a template makes.

    Raises:
        PromptError: It begins with no role, or one of its roles needs more than a content.
    """
    start, *parts = _ROLE.split(_render(template, inputs))
    if start.strip():
        raise PromptError(f"the prompt does not begin with a role: {start.strip()[:80]!r}")
    messages = []
    for role, content in zip(parts[1::4], parts[3::4], strict=True):
        if role.lower() in ("function", "tool"):
            raise PromptError(f"engine plain does not do the role {role}. Fix: --engine promptflow")
        named = _NAMED.match(content)
        name, text = ({"name": named[1]}, named[2]) if named else ({}, content)
        messages.append({"role": role.lower(), **name, "content": text.strip().replace(_MASK, "")})
    return messages


def _render(template: str, inputs: Mapping[str, Any]) -> str:
    masked = {k: v.masked if isinstance(v, Prompt) else v for k, v in inputs.items()}
    try:
        return _JINJA.from_string(template).render(masked)
    except jinja2.TemplateError as error:
        raise PromptError(f"the template fails: {type(error).__name__}: {error}") from None


def as_promptflow_tells(**_: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a call so that its errors read as in promptflow; the client alone tries again."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            import openai

            try:
                return function(*args, **kwargs)
            except openai.OpenAIError as error:
                status, kind = getattr(error, "status_code", 0), getattr(error, "type", None)
                again = status >= 500 or (status in (422, 429) and kind != "insufficient_quota")
                often = again or isinstance(error, openai.APITimeoutError)
                told = f"OpenAI API hits {type(error).__name__}: {error} [{_SEE}]"
                raise OpenAIError(f"Exceed max retry times. {told}" if often else told) from None

        return call

    return decorate


class OpenAI:
    """The client of LLM nodes for an OpenAI connection, or any endpoint that speaks its API."""

    client, model = "OpenAI", "model"
    places: ClassVar[Mapping[str, str]] = {"base_url": "base_url", "organization": "organization"}
    extra: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, connection: Any) -> None:
        import openai

        places = {"api_key": "api_key", **self.places}
        values = {name: getattr(connection, place) or None for name, place in places.items()}
        limits = {"timeout": _SECONDS, "max_retries": _RETRIES}
        self._client: Any = getattr(openai, self.client)(**values, **limits)

    @as_promptflow_tells()
    def chat(self, prompt: str, **inputs: Any) -> str:
        """The model's answer to the template ``prompt``, filled with what is no parameter."""
        body = {"model": inputs.pop(self.model, ""), "temperature": 1.0, "top_p": 1.0}
        body |= {key: inputs.pop(key) for key in PARAMETERS if key in inputs}
        body = {key: value for key, value in body.items() if value not in (None, "", [], {}, "inf")}
        body |= {"messages": as_messages(prompt, inputs), "stream": False, **self.extra}
        reply = self._client.chat.completions.create(**body)
        return getattr(reply.choices[0].message, "content", "")


class AzureOpenAI(OpenAI):
    """The client of LLM nodes for an Azure OpenAI connection, whose model is a deployment."""

    client, model = "AzureOpenAI", "deployment_name"
    places: ClassVar[Mapping[str, str]] = {
        "azure_endpoint": "api_base",
        "api_version": "api_version",
    }
    extra: ClassVar[Mapping[str, Any]] = {
        "n": 1,
        "extra_headers": {"ms-azure-ai-promptflow-called-from": "aoai-tool"},
    }
