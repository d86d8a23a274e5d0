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

from setup.local.endpoint import management, metrics, routes
from setup.local.endpoint.deployments import Deployments
from setup.local.endpoint.errors import ApiError
from setup.local.endpoint.observe import Handler, log, log_to, observe
from setup.local.endpoint.settings import (
    LOG,
    PID,
    EndpointSettings,
    Keys,
    ensure_keys,
    load_settings,
)
from setup.local.endpoint.swagger import swagger
from setup.paths import write_private

KEYS: web.AppKey[Keys] = web.AppKey("keys", Keys)
_OPEN = {"/", "/health"}
# Every accepted request has a deadline of its own; this only has to be longer than any of them.
_DRAIN_AT_MOST = 3600.0


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every failure as JSON with Azure's status code; an unforeseen one without its details."""
    try:
        return await handler(request)
    except ApiError as error:
        return web.json_response(error.body(), status=error.status, headers=error.headers)
    except web.HTTPException as error:
        known = ApiError(error.status, error.reason)
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return web.json_response(known.body(), status=error.status, headers=allow)
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception:  # noqa: BLE001 - logged with its traceback, answered without it
        log.exception("unforeseen failure", extra={"path": request.path})
        return web.json_response(ApiError(500, "internal error; see the log").body(), status=500)


@web.middleware
async def require_key(request: web.Request, handler: Handler) -> web.StreamResponse:
    """401 without the key the route wants, compared in constant time."""
    if request.path not in _OPEN:
        keys = request.app[KEYS]
        wanted = keys.management if request.path.startswith("/manage") else keys.scoring
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        sent = given.strip().encode("utf-8", "surrogateescape")
        same = hmac.compare_digest(sent, wanted.encode())
        if scheme.lower() != "bearer" or not same:
            raise ApiError(401, "send the endpoint's key as `Authorization: Bearer KEY`")
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
        middlewares=[observe, answer_errors, require_key], client_max_size=settings.max_body
    )
    app[KEYS], app[routes.SETTINGS], app[routes.DEPLOYMENTS] = keys, settings, deployments
    app.router.add_get("/", live)
    app.router.add_get("/health", health)
    app.router.add_get("/metrics", show_metrics)
    app.router.add_get("/swagger.json", swagger)
    app.router.add_get("/v1/models", routes.models)
    app.router.add_post("/score", routes.score)
    app.router.add_post("/v1/chat/completions", routes.chat_completions)
    app.router.add_post("/tokenize", routes.tokenize)
    app.router.add_get("/manage", management.show)
    app.router.add_put("/manage/deployments/{name}", management.put_deployment)
    app.router.add_delete("/manage/deployments/{name}", management.delete_deployment)
    app.router.add_put("/manage/traffic", management.put_traffic)
    app.router.add_post("/manage/drain", management.drain)
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
