"""Traces of requests: a span of the endpoint and, below it, one of the engine that it asked.

The names are those of OpenTelemetry's conventions for HTTP servers and for generative AI. Nothing
of it is imported, and no request does anything for it, unless the environment names a collector.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from aiohttp import web

from setup.serve.contract.contracts import usage_of
from setup.serve.contract.grammars import holds_json
from setup.serve.settings import names_collector

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_SERVICE = "finetune-phi-endpoint"
_TRACED = ("/score", "/v1/chat/completions", "/tokenize")
_SENT = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "max_tokens": "max_tokens",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "stop": "stop_sequences",
    "stream": "stream",
}
_TIMINGS = ("prompt_ms", "predicted_ms")
_TAIL = 4096  # bytes of a stream: its last events tell how it ended


class EngineCall:
    """The span of one question to an engine; delivered when the request's answer is on its way."""

    def __init__(self, span: Any, shows_content: bool) -> None:
        self.span, self.ended, self.is_whole = span, 0, False
        self._started, self._shows_content = time.monotonic(), shows_content
        self._tail = b""

    def asked(self, body: Mapping[str, Any]) -> None:
        """Note how the engine is to answer."""
        for name, attribute in _SENT.items():
            value = body.get(name)
            if value not in (None, [], "") and value is not False:
                # A whole number to llama.cpp, a double in the conventions.
                value = float(value) if name == "top_k" else value
                self.span.set_attribute(f"gen_ai.request.{attribute}", value)
        if holds_json(str(body.get("grammar", ""))):
            self.span.set_attribute("gen_ai.output.type", "json")
        if self._shows_content:
            self.span.set_attribute("gen_ai.input.messages", _messages(body["messages"]))

    def answered(self, completion: Mapping[str, Any]) -> None:
        """Note what a whole completion tells."""
        self._note(completion)
        choices = completion.get("choices") or []
        if self._shows_content and choices:
            reasons = [choice.get("finish_reason") or "" for choice in choices]
            said = _messages([choice["message"] for choice in choices], reasons)
            self.span.set_attribute("gen_ai.output.messages", said)

    async def watched(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Pass the pieces of a stream on, noting when the first one came, and keep the last."""
        first = True
        async for piece in pieces:
            if first:
                took, first = time.monotonic() - self._started, False
                self.span.set_attribute("gen_ai.response.time_to_first_chunk", took)
            self._tail = (self._tail + piece)[-_TAIL:]
            yield piece

    def end(self) -> None:
        """End the span, of a stream with what its last events tell.

        One that was read to its end without a reason was ended here, at a stop.
        """
        told = _last_events(self._tail)
        if "error" in told:
            self.failed(str(told["error"].get("type", "")))
        elif told.get("choices") and self.is_whole and not told["choices"][0].get("finish_reason"):
            told["choices"] = [{"finish_reason": "stop"}]
        self._note(told)
        self.span.end(self.ended or None)

    def failed(self, kind: str) -> None:
        """Note an error of this kind."""
        from opentelemetry.trace import StatusCode

        self.span.set_attribute("error.type", kind)
        self.span.set_status(StatusCode.ERROR)

    def _note(self, completion: Mapping[str, Any]) -> None:
        ends = [choice.get("finish_reason") for choice in completion.get("choices") or ()]
        if reasons := [reason for reason in ends if reason]:
            self.span.set_attribute("gen_ai.response.finish_reasons", reasons)
        for name in ("id", "model"):
            if name in completion:
                self.span.set_attribute(f"gen_ai.response.{name}", completion[name])
        self.span.set_attributes(_usage(completion))
        timings = completion.get("timings") or {}
        for name in _TIMINGS:
            if name in timings:
                self.span.set_attribute(f"llama_cpp.timings.{name}", timings[name])


class Tracer:
    """The maker of the endpoint's spans; ``destination`` names where they go."""

    def __init__(self, tracer: Any, destination: str, shows_content: bool) -> None:
        self._tracer, self._shows_content = tracer, shows_content
        self.destination = destination

    @web.middleware
    async def trace(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer within a span that continues the trace of the request's ``traceparent``."""
        resource = request.match_info.route.resource
        route = resource.canonical if resource else ""
        if route not in _TRACED:
            return await handler(request)
        from opentelemetry import trace
        from opentelemetry.trace.propagation import tracecontext

        span = self._tracer.start_span(
            f"{request.method} {route}",
            tracecontext.TraceContextTextMapPropagator().extract(request.headers),
            trace.SpanKind.SERVER,
            {
                "http.request.method": request.method,
                "http.route": route,
                "url.path": route,
                "url.scheme": request.scheme,
            },
        )
        facts, status = request["facts"], 499
        facts["trace_id"] = trace.format_trace_id(span.get_span_context().trace_id)
        held = _Held(self, facts)
        token = _current.set(held)
        try:
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                response = await handler(request)
            status = response.status
            return response
        finally:
            _current.reset(token)
            _end(span, held.calls, facts, status)

    def engine_call(self, facts: Mapping[str, Any]) -> EngineCall:
        """Begin the span of a question to the engine of the request's deployment."""
        from opentelemetry.trace import SpanKind

        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "llama.cpp",
            "gen_ai.request.model": facts["deployment"],
        }
        name = f"chat {facts['deployment']}"
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
        return EngineCall(span, self._shows_content)


class _Held:
    """The tracer, what the log says of the request, and the engine's spans that are not ended."""

    def __init__(self, tracer: Tracer, facts: dict[str, Any]) -> None:
        self.tracer, self.facts = tracer, facts
        self.calls: list[EngineCall] = []


_current: ContextVar[_Held | None] = ContextVar("traced request", default=None)
TRACER: web.AppKey[Tracer] = web.AppKey("tracer", Tracer)


def middlewares(app: web.Application, log: logging.Logger) -> list[Any]:
    """Return what traces the requests of ``app``: nothing where the environment does not ask.

    Spans go where those of the flows go; ``log`` is told where, and when they do not arrive.
    """
    # Else nothing is imported: opentelemetry, and requests, which the endpoint has no use for.
    tracer = _make(log) if names_collector() else None
    if tracer is None:
        return []
    app[TRACER] = tracer
    log.info("traces go to %s", tracer.destination)
    return [tracer.trace]


def destination(app: web.Application) -> str:
    """Name the place that the spans of ``app`` go to, empty where there are none."""
    return app[TRACER].destination if TRACER in app else ""


def _make(log: logging.Logger) -> Tracer | None:
    try:
        from flows.chat.scoring_client.tracing import collector
    except ImportError as error:  # the image of a container has neither
        log.warning("no traces: there is no module %s here", error.name)
        return None
    provider = collector.provider(_SERVICE, log.warning) if collector.asked() else None
    if provider is None:
        return None
    content = collector.shows_content()
    told = ", with questions and answers" if content else ", without questions and answers"
    return Tracer(provider.get_tracer("setup.serve"), collector.destination() + told, content)


@contextmanager
def engine_call(body: Mapping[str, Any]) -> Iterator[EngineCall | None]:
    """The span of what the block asks an engine, None where the request is not traced."""
    held = _current.get()
    if held is None:
        yield None
        return
    from opentelemetry.trace import use_span

    call = held.tracer.engine_call(held.facts)
    call.asked(body)
    held.calls.append(call)
    try:
        with use_span(call.span, record_exception=False, set_status_on_exception=False):
            yield call
            call.is_whole = True
    except BaseException as error:
        call.failed(type(error).__name__)
        raise
    finally:
        call.ended = time.time_ns()


def headers() -> dict[str, str]:
    """The headers by which an engine's work would be part of the trace; empty without one."""
    if _current.get() is None:
        return {}
    from opentelemetry.trace.propagation import tracecontext

    carrier: dict[str, str] = {}
    tracecontext.TraceContextTextMapPropagator().inject(carrier)
    return carrier


def _end(span: Any, calls: list[EngineCall], facts: Mapping[str, Any], status: int) -> None:
    """End the spans of a request with what the log says of it."""
    from opentelemetry.trace import StatusCode

    usage = {
        f"gen_ai.usage.{kind}_tokens": facts[name]
        for kind, name in (("input", "prompt_tokens"), ("output", "completion_tokens"))
        if name in facts
    }
    for call in calls:
        call.end()
    span.set_attributes(usage)
    for name in ("deployment", "queue_ms", "reason"):
        if facts.get(name) not in (None, ""):
            span.set_attribute(f"endpoint.{name}", facts[name])
    if status == 499:
        span.set_attribute("error.type", "client_closed_request")
    else:
        span.set_attribute("http.response.status_code", status)
    failure = facts.get("stream_error") or (str(status) if 400 <= status != 499 else "")
    if failure:
        span.set_attribute("error.type", failure)
    if facts.get("stream_error") or status >= 500:
        span.set_status(StatusCode.ERROR)
    span.end()


def _last_events(tail: bytes) -> dict[str, Any]:
    """The events at the end of a stream as one completion, without any that is cut."""
    told: dict[str, Any] = {}
    for line in tail.splitlines():
        if line.startswith(b"data: {"):
            with suppress(ValueError):
                event = json.loads(line[6:])
                # The one with the usage has an empty list of choices.
                told |= {name: value for name, value in event.items() if value}
    return told


def _usage(completion: Mapping[str, Any]) -> dict[str, int]:
    """The tokens of one answer; of a stream nobody may have asked for them, llama.cpp counts."""
    usage, timings = completion.get("usage"), completion.get("timings")
    if not usage and not timings:
        return {}
    usage = usage or usage_of(timings or {})
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    return {
        "gen_ai.usage.input_tokens": usage["prompt_tokens"],
        "gen_ai.usage.output_tokens": usage["completion_tokens"],
        "gen_ai.usage.cache_read.input_tokens": cached,
    }


def _messages(turns: list[Any], reasons: list[str] | None = None) -> str:
    """Turns as the conventions have them."""
    told = []
    for number, turn in enumerate(turns):
        entry = {"role": turn.get("role"), "parts": list(_parts(turn))}
        told.append(entry | ({"finish_reason": reasons[number]} if reasons else {}))
    return json.dumps(told)


def _parts(turn: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The parts of a turn: its text, the tools that it calls, or what a tool has said."""
    content = turn.get("content")
    text = content if isinstance(content, str) else json.dumps(content)
    if turn.get("role") == "tool":
        yield {"type": "tool_call_response", "id": turn.get("tool_call_id"), "response": text}
    elif content:
        yield {"type": "text", "content": text}
    for call in turn.get("tool_calls") or ():
        function = call.get("function") or {}
        named = {"name": function.get("name"), "arguments": function.get("arguments")}
        yield {"type": "tool_call", "id": call.get("id"), **named}
