"""Scoring: a request is admitted, read, checked, given a slot, asked of an engine, answered."""

from __future__ import annotations

import asyncio
import json
import re
from asyncio import timeout_at
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any, NamedTuple

from aiohttp import web

from setup.serve import metrics
from setup.serve.contract.contracts import (
    ChatRequest,
    ScoreRequest,
    TokenizeRequest,
    parse_body,
    score_reply,
)
from setup.serve.contract.error_reply import ApiError, EngineError
from setup.serve.contract.schemas import check_json, checked, holds_json, try_grammar
from setup.serve.deployments import Deployment, Deployments
from setup.serve.engine import Engine
from setup.serve.settings import EndpointSettings

DEPLOYMENTS: web.AppKey[Deployments] = web.AppKey("deployments", Deployments)
SETTINGS: web.AppKey[EndpointSettings] = web.AppKey("settings", EndpointSettings)
_HEADER = "azureml-model-deployment"
_COUNTS = re.compile(rb'"(cache_n|prompt_n|predicted_n)":\s*(\d+)')
_STREAM_TAIL = 2048


class Turn(NamedTuple):
    """A request that holds a slot of ``deployment`` until ``deadline`` (the loop's clock)."""

    deployment: Deployment
    deadline: float
    body: dict[str, Any]


async def score(request: web.Request) -> web.Response:
    """``POST /score``: the chat contract of an Azure ML endpoint."""
    async with _turn(request, ScoreRequest) as turn:
        completion = await _complete(request, turn)
    return web.json_response(score_reply(completion, turn.deployment.name))


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """``POST /v1/chat/completions``: OpenAI's contract, streamed when asked to."""
    async with _turn(request, ChatRequest) as turn:
        if turn.body["stream"]:
            return await _stream(request, turn)
        return web.json_response(await _complete(request, turn))


async def tokenize(request: web.Request) -> web.Response:
    """``POST /tokenize``: tokens of a text, or of a conversation with its template around it."""
    deployment = _pick(request)
    limit = deployment.settings.request_timeout
    with deployment.admission.guest(), _translated(limit):
        parsed = parse_body(TokenizeRequest, await read_body(request))
        async with timeout_at(asyncio.get_running_loop().time() + limit):
            tokens = await _tokens(deployment.engine, parsed)
    window = deployment.settings.context_window
    return web.json_response({"count": len(tokens), "max_model_len": window, "tokens": tokens})


async def _tokens(engine: Engine, asked: TokenizeRequest) -> list[int]:
    text = asked.prompt
    if asked.messages is not None:
        messages = [message.as_sent() for message in asked.messages]
        text = (await engine.post("/apply-template", {"messages": messages}))["prompt"]
    body = {"content": text, "add_special": True, "parse_special": asked.prompt is None}
    return list((await engine.post("/tokenize", body))["tokens"])


async def models(request: web.Request) -> web.Response:
    """``GET /v1/models``: the endpoint, which follows its traffic table, and each deployment."""
    listed: list[dict[str, Any]] = [
        {"id": request.app[SETTINGS].name, "object": "model", "owned_by": "finetune-phi"}
    ]
    listed += [
        {
            "id": deployment.name,
            "object": "model",
            "owned_by": "finetune-phi",
            "max_model_len": deployment.settings.context_window,
        }
        for deployment in request.app[DEPLOYMENTS].table.values()
    ]
    return web.json_response({"object": "list", "data": listed})


async def expect_nothing_yet(_: web.Request) -> None:
    """Leave a client waiting that asks before it sends its body: ``read_body`` calls for it."""


async def read_body(request: web.Request) -> bytes:
    """The whole body; 413 when it is too large, 408 when it does not arrive."""
    settings = request.app[SETTINGS]
    if (request.content_length or 0) > settings.max_body:
        raise ApiError(413, f"the body is larger than {settings.max_body} bytes")
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    try:
        return await asyncio.wait_for(request.read(), settings.read_timeout)
    except TimeoutError:
        raise ApiError(408, f"the body did not arrive in {settings.read_timeout:g} s") from None
    except web.HTTPRequestEntityTooLarge:
        raise ApiError(413, f"the body is larger than {settings.max_body} bytes") from None
    except web.RequestPayloadError:
        raise ApiError(400, "the body is not encoded as its headers say") from None


def _pick(request: web.Request, model: str | None = None) -> Deployment:
    """The deployment of the request's header, else of its model, else of the traffic table."""
    deployments, endpoint = request.app[DEPLOYMENTS], request.app[SETTINGS].name
    named = request.headers.get(_HEADER)
    if named is None and model not in (None, endpoint):
        if model not in deployments.table:
            message = f"no model {model!r}; there are: {', '.join([endpoint, *deployments.table])}"
            raise ApiError(404, message, code="model_not_found", param="model")
        named = model
    deployment = deployments.pick(named)
    request["facts"]["deployment"] = deployment.name
    return deployment


@asynccontextmanager
async def _turn(
    request: web.Request, schema: type[ScoreRequest] | type[ChatRequest]
) -> AsyncIterator[Turn]:
    """Admit the request, then read it, then give it a slot.

    Nobody's body is read who is not admitted, and one that comes slowly holds a place in the
    queue, not a slot. The place is of the deployment asked, as soon as that is known.
    """
    async with AsyncExitStack() as stack:
        place = stack.enter_context(ExitStack())
        by_model = schema is ChatRequest and _HEADER not in request.headers
        reading = request.app[DEPLOYMENTS].roomiest() if by_model else None
        deployment = reading or _pick(request)
        place.enter_context(deployment.admission.place())
        parsed = parse_body(schema, await read_body(request))
        if by_model:
            place.close()
            deployment = _pick(request, parsed.model)
            place.enter_context(deployment.admission.place())
        stack.enter_context(metrics.admitted.labels(deployment.name).track_inprogress())
        limit = deployment.settings.request_timeout
        turn = Turn(deployment, asyncio.get_running_loop().time() + limit, parsed.engine_body())
        with _translated(limit):
            async with timeout_at(turn.deadline):
                waited = await stack.enter_async_context(deployment.admission.slot())
                await _see_obeyed(deployment.engine, turn.body)
        metrics.queue_seconds.labels(deployment.name).observe(waited)
        request["facts"]["queue_ms"] = round(waited * 1000, 1)
        yield turn


async def _see_obeyed(engine: Engine, body: dict[str, Any]) -> None:
    """Refuse what the engine would leave out in silence."""
    if "logit_bias" in body:
        known = await engine.vocabulary()
        unknown = [token for token in body["logit_bias"] if int(token) >= known]
        if unknown:
            field = f"logit_bias.{unknown[0]}"
            raise ApiError(422, f"{field}: the model's token ids are below {known}", param=field)
    if holds_json(body):
        await try_grammar(engine, body["grammar"])


async def _complete(request: web.Request, turn: Turn) -> dict[str, Any]:
    with _translated(turn.deployment.settings.request_timeout):
        async with timeout_at(turn.deadline):
            completion = await turn.deployment.engine.complete(turn.body)
        if holds_json(turn.body):
            choice = completion["choices"][0]
            check_json(choice["message"]["content"], cut=choice["finish_reason"] == "length")
    usage = completion["usage"]
    _count(request, usage["prompt_tokens"], usage["completion_tokens"])
    return completion


async def _stream(request: web.Request, turn: Turn) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    tail = b""
    try:
        with _translated(turn.deployment.settings.request_timeout):
            async with (
                timeout_at(turn.deadline),
                turn.deployment.engine.stream(turn.body) as pieces,
            ):
                await response.prepare(request)
                async for piece in checked(pieces) if holds_json(turn.body) else pieces:
                    await response.write(piece)
                    tail = (tail + piece)[-_STREAM_TAIL:]
    except ApiError as error:
        if not response.prepared:
            raise
        # The status is sent already: the failure can only be told as one more event.
        await response.write(b"data: " + json.dumps(error.body()).encode() + b"\n\n")
        request["facts"]["stream_error"] = error.code
    counts = {key.decode(): int(value) for key, value in _COUNTS.findall(tail)}
    prompt = counts.get("cache_n", 0) + counts.get("prompt_n", 0)
    _count(request, prompt, counts.get("predicted_n", 0))
    with suppress(ConnectionResetError):  # some clients hang up after the last event
        await response.write_eof()
    return response


def _count(request: web.Request, prompt: int, generated: int) -> None:
    facts = request["facts"]
    facts["prompt_tokens"], facts["completion_tokens"] = prompt, generated
    metrics.tokens.labels(facts["deployment"], "prompt").inc(prompt)
    metrics.tokens.labels(facts["deployment"], "completion").inc(generated)


@contextmanager
def _translated(limit: float) -> Iterator[None]:
    """Engine failures and overrun deadlines as Azure's status codes."""
    try:
        yield
    except TimeoutError:
        raise ApiError(408, f"no answer within {limit:g} s") from None
    except EngineError as error:
        if error.kind == "exceed_context_size_error":
            raise ApiError(400, str(error), code="context_length_exceeded") from None
        if error.status == 503:
            raise ApiError(503, str(error), retry_after=2) from None
        if error.status == 400:
            raise ApiError(422, str(error)) from None
        raise ApiError(424, f"the model failed: {error}") from None
