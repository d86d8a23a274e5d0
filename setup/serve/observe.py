"""The access log and the counters: one JSON line per request, never a prompt, answer or key."""

from __future__ import annotations

import asyncio
import json
import logging
import logging.handlers
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from setup.serve import metrics
from setup.serve.settings import Keys

KEYS: web.AppKey[Keys] = web.AppKey("keys", Keys)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
log = logging.getLogger("endpoint")

_SHOWN = 200  # characters of a path
_PROBES = {"/", "/live", "/health", "/metrics", "/manage"}
_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class JsonLines(logging.Formatter):
    """Every record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, message, and whatever was given as ``extra``."""
        extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        time_ = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        line = {"time": time_, "level": record.levelname, "message": record.getMessage(), **extra}
        if record.exc_info and record.exc_info[0]:
            # Without its message: that of a parser quotes what it was sent, keys and prompts too.
            line["error"] = record.exc_info[0].__name__
            line["stack"] = traceback.format_tb(record.exc_info[2])
        return json.dumps(line, ensure_ascii=False)


def log_to(path: Path) -> None:
    """Send the endpoint's log to ``path``: at most 10 MB, three old files kept."""
    handler = logging.handlers.RotatingFileHandler(
        path, maxBytes=10_000_000, backupCount=3, encoding="utf-8"
    )
    handler.setFormatter(JsonLines())
    for name in ("endpoint", "aiohttp.server"):
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(logging.INFO)


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id, then log and count how it ended (499: the client went away)."""
    facts: dict[str, Any] = {"request_id": uuid.uuid4().hex, "deployment": ""}
    request["facts"] = facts
    started = time.monotonic()
    status = 499
    try:
        response = await handler(request)
        status = response.status
        if not response.prepared:
            response.headers["x-ms-request-id"] = facts["request_id"]
        return response
    finally:
        # Written down once the answer is on its way, so that nobody waits for the log.
        loop = asyncio.get_running_loop()
        loop.call_soon(_record, request, status, time.monotonic() - started)


def _record(request: web.Request, status: int, took: float) -> None:
    facts = request["facts"]
    resource = request.match_info.route.resource
    route = resource.canonical if resource else "unknown"
    metrics.requests.labels(route, facts["deployment"], str(status)).inc()
    metrics.seconds.labels(route, facts["deployment"]).observe(took)
    extra = {"method": request.method, "route": route, "status": status, **facts}
    if resource is None:
        extra["path"] = _without_keys(request)
    # Probes come every few seconds and would bury what people look for.
    level = logging.DEBUG if route in _PROBES else logging.INFO
    log.log(level, "request", extra={**extra, "ms": round(took * 1000, 1)})


def _without_keys(request: web.Request) -> str:
    """Return the path of a request to no route, without the keys that some clients put there."""
    path, keys = request.path, request.app[KEYS]
    for key in (keys.scoring, keys.management):
        path = path.replace(key, "***")
    return path[:_SHOWN]
