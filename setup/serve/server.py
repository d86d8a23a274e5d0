"""The endpoint as one web application, and its life from start to drain."""

from __future__ import annotations

import asyncio
import logging.handlers
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from setup.common.paths import write_private
from setup.serve import client_connections, manage, observe, ratings, routes, tracing
from setup.serve import settings as stored
from setup.serve.access import cors, keys
from setup.serve.answering import delivery
from setup.serve.contract.error_reply import ApiError
from setup.serve.contract.swagger import swagger
from setup.serve.deployments import ENDPOINT, Endpoint, log

_OPEN = {"/", "/health"}
_ANSWERED = {"/score", "/v1/chat/completions"}  # by a model, at some cost
# Every accepted request has a deadline of its own; this only has to be longer than any of them.
_DRAIN_AT_MOST = 3600.0
_SHOWN = 100  # characters of a path


@web.middleware
async def answer_errors(request: web.Request, handler: observe.Handler) -> web.StreamResponse:
    """Every failure as JSON with Azure's status code; an unforeseen one without its details."""
    try:
        return await handler(request)
    except ApiError as error:
        refusal, headers = error, error.headers
        if error.status == 401:  # https://www.rfc-editor.org/rfc/rfc9110#section-15.5.2
            headers = headers | {"WWW-Authenticate": "Bearer"}
    except web.HTTPException as error:
        refusal = _routing_error(request, error)
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception:  # noqa: BLE001 - logged with its traceback, answered without it
        log.exception("unforeseen failure", extra={"path": request.path})
        refusal, headers = ApiError(500, "internal error; see the log"), {}
    request["facts"]["reason"] = refusal.code
    return web.json_response(refusal.body(request.path), status=refusal.status, headers=headers)


def _routing_error(request: web.Request, error: web.HTTPException) -> ApiError:
    """aiohttp's own refusals, with what there is instead."""
    if error.status == 404:
        there = sorted(
            f"{route.method} {route.resource.canonical}"
            for route in request.app.router.routes()
            if route.resource and route.method != "HEAD"
            if not route.resource.canonical.startswith("/manage")
        )
        message = f"no route {request.method} {request.path[:_SHOWN]}; there are: "
        return ApiError(404, message + ", ".join(there), code="route_not_found")
    if error.status == 405:
        allowed = error.headers.get("Allow", "")
        return ApiError(405, f"{request.path} takes {allowed}, not {request.method}")
    return ApiError(error.status, error.reason)


@web.middleware
async def require_key(request: web.Request, handler: observe.Handler) -> web.StreamResponse:
    """401 without the key the route wants; 429 where that asks for answers too often."""
    if request.path not in _OPEN and not request.path.startswith("/pages/"):
        endpoint = request.app[ENDPOINT]
        kind = "management" if request.path.startswith("/manage") else "scoring"
        known = keys.check(request, endpoint.keys, kind)
        if known and request.path in _ANSWERED:
            endpoint.allowances[known].take()
    return await handler(request)


async def live(_: web.Request) -> web.Response:
    """``GET /`` for all but browsers: the process answers."""
    return web.Response(text="Healthy\n")


async def health(request: web.Request) -> web.Response:
    """``GET /health``: 200 when every deployment that takes traffic can answer, else 503."""
    endpoint = request.app[ENDPOINT]
    taking = [name for name, share in endpoint.settings.traffic.items() if share]
    down = [name for name in taking if not endpoint.table[name].healthy]
    ready = bool(taking) and not down
    body = {"status": "ok" if ready else "unavailable", "down": down}
    return web.json_response(body, status=200 if ready else 503)


async def metrics(_: web.Request) -> web.Response:
    """``GET /metrics`` for Prometheus."""
    headers = {"Content-Type": CONTENT_TYPE_LATEST}
    return web.Response(body=generate_latest(observe.registry), headers=headers)


def build_app(endpoint: Endpoint) -> web.Application:
    """The application with all its routes."""
    app = web.Application(
        middlewares=[answer_errors, cors.answer_preflights, require_key],
        client_max_size=endpoint.settings.max_body,
    )
    app.middlewares[:0] = [observe.observe, *tracing.middlewares(app, log)]
    app.on_response_prepare.append(cors.allow_origin)
    app[ENDPOINT] = endpoint
    for path, handler in (
        ("/", live),
        ("/health", health),
        ("/metrics", metrics),
        ("/swagger.json", swagger),
        ("/v1/models", routes.models),
        ("/v1/models/{model}", routes.model),
    ):
        app.router.add_get(path, handler)
    for path, answer in (
        ("/score", routes.score),
        ("/v1/chat/completions", routes.chat_completions),
        ("/tokenize", routes.tokenize),
    ):
        app.router.add_post(path, answer, expect_handler=routes.expect_nothing_yet)
    manage.add_routes(app)
    ratings.add_page(app)
    return app


async def run(
    app: web.Application,
    drain_at_most: float,
    listening: Callable[[], None] = lambda: None,
    needs_all: bool = False,
    **options: Any,
) -> bool:
    """Answer until SIGTERM, Ctrl-C or a drain request; deployments are loaded meanwhile.

    ``listening`` is called as soon as clients can connect, ``options`` are aiohttp's. Returns False
    where a deployment did not load; with ``needs_all`` that ends it.
    """
    endpoint, loop = app[ENDPOINT], asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        if sys.platform == "win32":
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(endpoint.stop.set))
        else:
            loop.add_signal_handler(number, endpoint.stop.set)
    options |= {"handler_cancellation": True, "shutdown_timeout": drain_at_most}
    runner = client_connections.Runner(app, access_log=None, **options)
    await runner.setup()
    where: dict[str, Any] = {"host": endpoint.settings.host, "port": endpoint.settings.port}
    await web.TCPSite(runner, **where, backlog=1024).start()
    listening()
    log.info("listening", extra=where)
    loading = asyncio.create_task(endpoint.start_all())

    def end_unless_loaded(task: asyncio.Task[bool]) -> None:
        if needs_all and not task.cancelled() and not task.result():
            endpoint.stop.set()

    loading.add_done_callback(end_unless_loaded)

    def connections() -> list[Any]:
        return list(runner.server.connections) if runner.server else []

    read, longest = endpoint.settings.read_timeout, endpoint.longest_request
    guard = asyncio.create_task(delivery.guard(connections, read, longest))
    await endpoint.stop.wait()
    log.info("draining")
    loading.cancel()
    (loaded,) = await asyncio.gather(loading, return_exceptions=True)
    await runner.cleanup()
    await endpoint.stop_all()
    guard.cancel()
    return loaded is not False


async def serve(folder: Path) -> None:
    """Run the endpoint of ``folder`` until it is told to stop."""
    settings = stored.EndpointSettings.load(folder)
    if settings is None:
        raise SystemExit(f"no endpoint settings in {folder}; run `python -m setup deploy`")
    observe.log_to(  # at most 10 MB, three old files kept
        logging.handlers.RotatingFileHandler(
            folder / stored.LOG, maxBytes=10_000_000, backupCount=3, encoding="utf-8"
        )
    )
    process = {"pid": os.getpid(), "started": psutil.Process().create_time()}
    note = {**process, "host": settings.host, "port": settings.port}
    await run(
        build_app(Endpoint(settings, folder)),
        _DRAIN_AT_MOST,
        lambda: write_private(folder / stored.PID, note),
        keepalive_timeout=settings.read_timeout,
        lingering_time=2.0,
    )
    (folder / stored.PID).unlink(missing_ok=True)
    log.info("stopped")
