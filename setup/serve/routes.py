"""Scoring: a request is admitted, read, checked, given a slot, asked of an engine, answered."""

from __future__ import annotations

import asyncio
import json
from asyncio import timeout_at
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any, NamedTuple

from aiohttp import web

from setup.serve import collector, observe
from setup.serve.answering import answers, delivery
from setup.serve.contract import contracts, schemas
from setup.serve.contract.error_reply import ApiError, EngineError
from setup.serve.deployments import ENDPOINT, Deployment, Endpoint

_HEADER = "azureml-model-deployment"
_SHOWN = 100  # characters of a name


class Turn(NamedTuple):
    """A request that holds a slot of ``deployment`` until ``deadline`` (the loop's clock)."""

    deployment: Deployment
    deadline: float
    order: answers.Order


async def score(request: web.Request) -> web.Response:
    """``POST /score``: the chat contract of an Azure ML endpoint."""
    async with _turn(request, contracts.ScoreRequest) as turn:
        completion = await _complete(request, turn)
    await _keep(request, turn, completion)
    return web.json_response(contracts.score_reply(completion, turn.deployment.name))


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """``POST /v1/chat/completions``: OpenAI's contract, streamed when asked to."""
    async with _turn(request, contracts.ChatRequest) as turn:
        if turn.order.body["stream"]:
            response, completion = await _stream(request, turn)
        else:
            response, completion = None, await _complete(request, turn)
    # Not before the slot is free: some clients read slowly, and the feedback file may be busy.
    await _keep(request, turn, completion)
    if response is None:
        return web.json_response(completion)
    with suppress(ConnectionResetError):  # or hang up after the last event
        await response.write_eof()
    return response


async def tokenize(request: web.Request) -> web.Response:
    """``POST /tokenize``: tokens of a text, or of a conversation with its template around it."""
    deployment = _pick(request)
    settings = deployment.settings
    with deployment.admission.guest(), _translated(settings.request_timeout):
        asked = contracts.parse_body(contracts.TokenizeRequest, await read_body(request))
        async with asyncio.timeout(settings.request_timeout):
            text = asked.prompt
            if asked.messages is not None:
                messages = [message.as_sent() for message in asked.messages]
                await schemas.see_obeyed(deployment.engine, {"messages": messages}, None)
                text = await deployment.engine.prompt(messages)
            body = {"content": text, "add_special": True, "parse_special": asked.prompt is None}
            tokens = list((await deployment.engine.post("/tokenize", body))["tokens"])
    window = settings.context_window
    return web.json_response({"count": len(tokens), "max_model_len": window, "tokens": tokens})


async def models(request: web.Request) -> web.Response:
    """``GET /v1/models``: the endpoint, which follows its traffic table, and each deployment."""
    return web.json_response({"object": "list", "data": list(_models(request.app[ENDPOINT]))})


async def model(request: web.Request) -> web.Response:
    """``GET /v1/models/NAME``: one of them."""
    listed = {row["id"]: row for row in _models(request.app[ENDPOINT])}
    name = request.match_info["model"]
    if name not in listed:
        raise _no_model(name, listed)
    return web.json_response(listed[name])


def _models(endpoint: Endpoint) -> Iterator[dict[str, Any]]:
    common = {"object": "model", "owned_by": "finetune-phi"}
    yield {"id": endpoint.settings.name, "created": endpoint.created, **common}
    for name, deployment in endpoint.table.items():
        window = {"max_model_len": deployment.settings.context_window}
        yield {"id": name, "created": deployment.created, **common, **window}


def _no_model(name: str, known: Iterable[str]) -> ApiError:
    message = f"no model {name[:_SHOWN]!r}; there are: {', '.join(known)}"
    return ApiError(404, message, code="model_not_found", param="model")


async def expect_nothing_yet(_: web.Request) -> None:
    """Leave a client waiting that asks before it sends its body: ``read_body`` calls for it."""


async def read_body(request: web.Request) -> bytes:
    """The whole body; 413 when it is too large, 408 when it does not arrive."""
    settings = request.app[ENDPOINT].settings
    too_large = ApiError(413, f"the body is larger than {settings.max_body} bytes")
    if (request.content_length or 0) > settings.max_body:
        raise too_large
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    try:
        return await asyncio.wait_for(request.read(), settings.read_timeout)
    except TimeoutError:
        raise ApiError(408, f"the body did not arrive in {settings.read_timeout:g} s") from None
    except web.HTTPRequestEntityTooLarge:
        raise too_large from None
    except web.RequestPayloadError:
        raise ApiError(400, "the body is not encoded as its headers say") from None


def _pick(request: web.Request, model: str | None = None) -> Deployment:
    """The deployment of the request's header, else of its model, else of the traffic table."""
    endpoint, named = request.app[ENDPOINT], request.headers.get(_HEADER)
    own = endpoint.settings.name
    if named is None and model not in (None, own):
        if model not in endpoint.table:
            raise _no_model(model, [own, *endpoint.table])
        named = model
    deployment = endpoint.pick(named)
    request["facts"]["deployment"] = deployment.name
    return deployment


@asynccontextmanager
async def _turn(
    request: web.Request, schema: type[contracts.ScoreRequest] | type[contracts.ChatRequest]
) -> AsyncIterator[Turn]:
    """Admit the request, then read it, then give it a slot.

    Nobody's body is read who is not admitted, and one that comes slowly holds a place in the
    queue, not a slot. The place is of the deployment asked, as soon as that is known; until then
    of the one that would admit most requests.
    """
    async with AsyncExitStack() as stack:
        place = stack.enter_context(ExitStack())
        by_model = schema is contracts.ChatRequest and _HEADER not in request.headers
        table = request.app[ENDPOINT].table.values() if by_model else ()
        roomiest = max(table, key=lambda deployment: deployment.admission.room, default=None)
        deployment = roomiest or _pick(request)
        place.enter_context(deployment.admission.place())
        parsed = contracts.parse_body(schema, await read_body(request))
        collector.name_conversation(request, parsed)
        if by_model:
            place.close()
            deployment = _pick(request, parsed.model)
            place.enter_context(deployment.admission.place())
        stack.enter_context(observe.admitted.labels(deployment.name).track_inprogress())
        limit = deployment.settings.request_timeout
        deadline = asyncio.get_running_loop().time() + limit
        with _translated(limit):
            async with timeout_at(deadline):
                waited = await stack.enter_async_context(deployment.admission.slot())
                order = await _order(deployment, parsed)
        observe.queue_seconds.labels(deployment.name).observe(waited)
        request["facts"]["queue_ms"] = round(waited * 1000, 1)
        yield Turn(deployment, deadline, order)


async def _order(
    deployment: Deployment, asked: contracts.ScoreRequest | contracts.ChatRequest
) -> answers.Order:
    """The order for the engine; ApiError 400 for what it would not obey."""
    body = asked.engine_body()
    if isinstance(asked, contracts.ScoreRequest):
        parameters = asked.input_data.parameters
        await schemas.see_obeyed(deployment.engine, body, None, parameters.constraint)
        return answers.Order(body, schema=parameters.schema_asked)
    form = await schemas.see_obeyed(deployment.engine, body, asked.wish, asked.constraint)
    alternatives = (asked.top_logprobs or 0) if asked.logprobs else None
    return answers.Order(body, asked.n, alternatives, form, asked.wish, asked.schema_asked)


async def _complete(request: web.Request, turn: Turn) -> dict[str, Any]:
    with _translated(turn.deployment.settings.request_timeout):
        async with timeout_at(turn.deadline):
            completion = await answers.complete(turn.deployment.engine, turn.order)
    usage = completion["usage"]
    observe.count_tokens(request, usage["prompt_tokens"], usage["completion_tokens"])
    return completion


async def _keep(request: web.Request, turn: Turn, completion: dict[str, Any] | None) -> None:
    if completion:
        turns = turn.order.body["messages"]
        await collector.keep_answers(request, turn.deployment, turns, completion)


async def _stream(
    request: web.Request, turn: Turn
) -> tuple[web.StreamResponse, dict[str, Any] | None]:
    """The stream, not ended yet, and the answers in it where they are to be kept."""
    headers = {"Content-Type": "text/event-stream"}
    headers["x-ms-request-id"] = request["facts"]["request_id"]
    response = web.StreamResponse(headers=headers)
    usage, outlet = answers.Usage(), delivery.Outlet(request, response)
    copy = collector.Copy(request)
    try:
        with _translated(turn.deployment.settings.request_timeout):
            async with timeout_at(turn.deadline):
                sent = answers.stream(turn.deployment.engine, turn.order, usage)
                async for piece in copy.of(sent):
                    if not response.prepared:  # a request that the engine refuses has a status
                        await response.prepare(request)
                    await outlet.write(piece)
    except ApiError as error:
        if not response.prepared:
            raise
        # The status is sent already: the failure can only be told as one more event.
        await response.write(b"data: " + json.dumps(error.body()).encode() + b"\n\n")
        request["facts"]["stream_error"] = request["facts"]["reason"] = error.code
    observe.count_tokens(request, usage.prompt, usage.completion)
    return response, copy.completion()


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
            raise ApiError(400, str(error)) from None
        raise ApiError(424, f"the model failed: {error}") from None
