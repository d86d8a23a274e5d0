"""The endpoint as one web application, and its life from start to drain."""

from __future__ import annotations

import asyncio
import hmac
import os
import signal
import sys
from pathlib import Path

import psutil
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from setup.common.paths import write_private
from setup.serve import management, metrics, routes
from setup.serve.contract.error_reply import ApiError
from setup.serve.contract.swagger import swagger
from setup.serve.cors import allow_origin, answer_preflights
from setup.serve.deployments import Deployments
from setup.serve.observe import KEYS, Handler, log, log_to, observe
from setup.serve.settings import LOG, PID, EndpointSettings, Keys, ensure_keys, load_settings

_OPEN = {"/", "/health"}
# Every accepted request has a deadline of its own; this only has to be longer than any of them.
_DRAIN_AT_MOST = 3600.0
_SHOWN = 100  # characters of a path


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every failure as JSON with Azure's status code; an unforeseen one without its details."""
    try:
        return await handler(request)
    except ApiError as error:
        return web.json_response(error.body(), status=error.status, headers=error.headers)
    except web.HTTPException as error:
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        body = _routing_error(request, error).body()
        return web.json_response(body, status=error.status, headers=allow)
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception:  # noqa: BLE001 - logged with its traceback, answered without it
        log.exception("unforeseen failure", extra={"path": request.path})
        return web.json_response(ApiError(500, "internal error; see the log").body(), status=500)


def _routing_error(request: web.Request, error: web.HTTPException) -> ApiError:
    """aiohttp's own refusals, with what there is instead."""
    if error.status == 404:
        routes = sorted(
            f"{route.method} {route.resource.canonical}"
            for route in request.app.router.routes()
            if route.resource and route.method != "HEAD"
            if not route.resource.canonical.startswith("/manage")
        )
        message = f"no route {request.method} {request.path[:_SHOWN]}; there are: "
        return ApiError(404, message + ", ".join(routes), code="route_not_found")
    if error.status == 405:
        allowed = error.headers.get("Allow", "")
        return ApiError(405, f"{request.path} takes {allowed}, not {request.method}")
    return ApiError(error.status, error.reason)


@web.middleware
async def require_key(request: web.Request, handler: Handler) -> web.StreamResponse:
    """401 without the key the route wants, compared in constant time."""
    if request.path not in _OPEN:
        keys = request.app[KEYS]
        kind = "management" if request.path.startswith("/manage") else "scoring"
        expected = keys.management if kind == "management" else keys.scoring
        scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
        sent = credentials.strip().encode("utf-8", "surrogateescape")
        if scheme.lower() != "bearer" or not sent:
            message = f"no key: send the {kind} key as `Authorization: Bearer KEY`"
            raise ApiError(401, message, code="missing_api_key")
        if not hmac.compare_digest(sent, expected.encode()):
            raise ApiError(401, f"wrong key: it is not the {kind} key of this endpoint")
    return await handler(request)


async def live(_: web.Request) -> web.Response:
    """``GET /``: the process answers."""
    return web.Response(text="Healthy\n")


async def health(request: web.Request) -> web.Response:
    """``GET /health``: 200 when every deployment that takes traffic can answer, else 503."""
    table = request.app[routes.DEPLOYMENTS]
    taking = [name for name, share in table.traffic.items() if share]
    down = [name for name in taking if not table.table[name].healthy]
    ready = bool(taking) and not down
    body = {"status": "ok" if ready else "unavailable", "down": down}
    return web.json_response(body, status=200 if ready else 503)


async def show_metrics(_: web.Request) -> web.Response:
    """``GET /metrics`` for Prometheus."""
    return web.Response(
        body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
    )


def build_app(settings: EndpointSettings, keys: Keys, deployments: Deployments) -> web.Application:
    """The application with all its routes."""
    app = web.Application(
        middlewares=[observe, answer_errors, answer_preflights, require_key],
        client_max_size=settings.max_body,
    )
    app.on_response_prepare.append(allow_origin)
    app[KEYS], app[routes.SETTINGS], app[routes.DEPLOYMENTS] = keys, settings, deployments
    app.router.add_get("/", live)
    app.router.add_get("/health", health)
    app.router.add_get("/metrics", show_metrics)
    app.router.add_get("/swagger.json", swagger)
    app.router.add_get("/v1/models", routes.models)
    app.router.add_get("/manage", management.show)
    app.router.add_delete("/manage/deployments/{name}", management.delete_deployment)
    for method, path, handler in (
        ("POST", "/score", routes.score),
        ("POST", "/v1/chat/completions", routes.chat_completions),
        ("POST", "/tokenize", routes.tokenize),
        ("PUT", "/manage/deployments/{name}", management.put_deployment),
        ("PUT", "/manage/traffic", management.put_traffic),
        ("POST", "/manage/drain", management.drain),
    ):
        app.router.add_route(method, path, handler, expect_handler=routes.expect_nothing_yet)
    return app


async def serve(folder: Path) -> None:
    """Run the endpoint of ``folder`` until SIGTERM, Ctrl-C or a drain request."""
    settings = load_settings(folder)
    if settings is None:
        raise SystemExit(f"no endpoint settings in {folder}; run `python -m setup deploy`")
    log_to(folder / LOG)
    stop = asyncio.Event()
    deployments = Deployments(settings, folder)
    app = build_app(settings, ensure_keys(folder), deployments)
    app[management.DRAIN] = stop
    _on_signals(stop)
    runner = web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=True,
        keepalive_timeout=settings.read_timeout,
        lingering_time=2.0,
        shutdown_timeout=_DRAIN_AT_MOST,
    )
    await runner.setup()
    await web.TCPSite(runner, settings.host, settings.port, backlog=1024).start()
    _write_pid(folder, settings)
    log.info("listening", extra={"host": settings.host, "port": settings.port})
    loading = asyncio.create_task(deployments.start_all())
    await stop.wait()
    log.info("draining")
    loading.cancel()
    await asyncio.gather(loading, return_exceptions=True)
    await runner.cleanup()
    await deployments.stop_all()
    (folder / PID).unlink(missing_ok=True)
    log.info("stopped")


def _write_pid(folder: Path, settings: EndpointSettings) -> None:
    started = psutil.Process().create_time()
    who = {"pid": os.getpid(), "started": started, "host": settings.host, "port": settings.port}
    write_private(folder / PID, who)


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        if sys.platform == "win32":
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
        else:
            loop.add_signal_handler(number, stop.set)
