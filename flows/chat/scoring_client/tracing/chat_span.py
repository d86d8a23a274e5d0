"""The span of one question to a chat endpoint, by the conventions for generative AI.

https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
Its attributes hold no key, and neither question nor answer unless ``shows_content``.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from . import collector

if TYPE_CHECKING:
    from ..contracts import Generation, Message
    from ..reply import Reply
    from ..settings import Settings

_logger = logging.getLogger("flows.chat.scoring_client")
_SERVICE = "finetune-phi-flow"
_PROVIDERS = {"openai": "openai"}
_AZURE = "azure.ai.ml"  # whoever answers contracts A and B answers as Azure ML does
_COUNTS = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}


class ChatSpan:
    """A span, or nothing where no traces are asked for: every method then does nothing."""

    def __init__(self, span: Any = None) -> None:
        self._span = span

    @classmethod
    def start(cls, settings: Settings, generation: Generation) -> ChatSpan:
        """Begin the span, below the one that is current."""
        tracer = _tracer()
        if tracer is None:
            return cls()
        from opentelemetry.trace import SpanKind

        url = urlsplit(settings.endpoint)
        model = settings.model or settings.deployment or settings.name or "default"
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": _PROVIDERS.get(settings.contract, _AZURE),
            "gen_ai.request.model": model,
            "gen_ai.request.max_tokens": generation.max_new_tokens,
            "gen_ai.request.temperature": float(generation.temperature),
            "gen_ai.request.top_p": float(generation.top_p),
            "server.address": url.hostname or "",
            "server.port": url.port or {"https": 443}.get(url.scheme, 80),
        }
        if generation.seed >= 0:
            attributes["gen_ai.request.seed"] = generation.seed
        return cls(tracer.start_span(f"chat {model}", kind=SpanKind.CLIENT, attributes=attributes))

    @contextmanager
    def current(self) -> Iterator[None]:
        """Let requests of the block carry the span; what fails in it ends the span."""
        if self._span is None:
            yield
            return
        from opentelemetry.trace import use_span

        with (
            self.failing(),
            use_span(self._span, record_exception=False, set_status_on_exception=False),
        ):
            yield

    @contextmanager
    def failing(self) -> Iterator[None]:
        """End the span with the class of what is raised: its text may quote what was asked."""
        try:
            yield
        except BaseException as error:
            if self._span is not None:
                from opentelemetry.trace import StatusCode

                if not isinstance(error, GeneratorExit):  # a reader who has had enough
                    self._span.set_attribute("error.type", type(error).__name__)
                    self._span.set_status(StatusCode.ERROR)
                self._span.end()
            raise

    def asked(self, messages: list[Message]) -> None:
        """Note the conversation, where content is shown."""
        if self._span is not None and collector.shows_content():
            self._span.set_attribute("gen_ai.input.messages", json.dumps(_told(messages)))

    def answered(self, reply: Reply) -> None:
        """Note the answer's cost and end the span."""
        if self._span is None:
            return
        for name, count in _COUNTS.items():
            if name in reply.usage:
                self._span.set_attribute(f"gen_ai.usage.{count}", reply.usage[name])
        if reply.finish_reason:
            self._span.set_attribute("gen_ai.response.finish_reasons", [reply.finish_reason])
        if reply.model:
            self._span.set_attribute("gen_ai.response.model", reply.model)
        if collector.shows_content():
            said = _told([{"role": "assistant", "content": reply.text}])
            said[0]["finish_reason"] = reply.finish_reason
            self._span.set_attribute("gen_ai.output.messages", json.dumps(said))
        self._span.end()


def headers() -> Mapping[str, str]:
    """The headers that make a request part of the current trace; empty where there is none."""
    if "opentelemetry.trace" not in sys.modules:
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier


def _tracer() -> Any:
    """The maker of spans: whose span is current, else our own, None where there are to be none."""
    if "opentelemetry.trace" in sys.modules:
        from opentelemetry import trace

        if trace.get_current_span().is_recording():
            # promptflow or an agent traces already: ours goes where theirs go, below it.
            return trace.get_tracer(__name__)
    if not collector.asked():
        return None
    provider = collector.provider(_SERVICE, _logger.warning)
    return provider and provider.get_tracer("flows.chat")


def _told(messages: list[Message]) -> list[dict[str, Any]]:
    return [
        {"role": turn["role"], "parts": [{"type": "text", "content": turn["content"]}]}
        for turn in messages
    ]
