"""The access log and the counters: one JSON line per request, never a prompt, answer or key."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from setup.serve.deployments import ENDPOINT, log

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_SHOWN = 200  # characters of a path
_PROBES = {"/", "/live", "/health", "/metrics", "/manage"}
_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

registry = CollectorRegistry()
requests = Counter(
    "endpoint_requests", "Requests answered", ["route", "deployment", "status"], registry=registry
)
seconds = Histogram(
    "endpoint_request_seconds",
    "Seconds from the first byte of a request to the last of its answer",
    ["route", "deployment"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180),
    registry=registry,
)
queue_seconds = Histogram(
    "endpoint_queue_seconds",
    "Seconds a request waited for a slot",
    ["deployment"],
    buckets=(0.001, 0.01, 0.1, 0.5, 1, 5, 15, 60),
    registry=registry,
)
tokens = Counter(
    "endpoint_tokens", "Tokens read and generated", ["deployment", "kind"], registry=registry
)
admitted = Gauge(
    "endpoint_admitted", "Requests being answered or waiting", ["deployment"], registry=registry
)
refusals = Counter(
    "endpoint_refusals",
    "Requests refused or broken off, by the code of their error",
    ["reason"],
    registry=registry,
)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Time, level, message, and whatever was given as ``extra``, as one JSON object."""
        extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        time_ = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        line = {"time": time_, "level": record.levelname, "message": record.getMessage(), **extra}
        if record.exc_info and record.exc_info[0]:
            # Without its message: that of a parser quotes what it was sent, keys and prompts too.
            line["error"] = record.exc_info[0].__name__
            line["stack"] = traceback.format_tb(record.exc_info[2])
        return json.dumps(line, ensure_ascii=False)


def log_to(handler: logging.Handler) -> None:
    """Send the endpoint's log to ``handler``."""
    handler.setFormatter(_JsonLines())
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


def count_tokens(request: web.Request, prompt: int, generated: int) -> None:
    """Count the tokens that a deployment has read and generated for the request."""
    facts = request["facts"]
    facts["prompt_tokens"], facts["completion_tokens"] = prompt, generated
    tokens.labels(facts["deployment"], "prompt").inc(prompt)
    tokens.labels(facts["deployment"], "completion").inc(generated)


def count_unread(request_id: str, status: int, reason: str) -> None:
    """Count and log what came as no request that could be read."""
    requests.labels("unknown", "", str(status)).inc()
    refusals.labels(reason).inc()
    extra = {"request_id": request_id, "route": "unknown", "status": status, "reason": reason}
    log.info("request", extra=extra)


def _record(request: web.Request, status: int, took: float) -> None:
    facts, keys = request["facts"], request.app[ENDPOINT].keys
    resource = request.match_info.route.resource
    route = resource.canonical if resource else "unknown"
    requests.labels(route, facts["deployment"], str(status)).inc()
    if reason := facts.get("reason") or ("client_left" if status == 499 else ""):
        refusals.labels(reason).inc()
    seconds.labels(route, facts["deployment"]).observe(took)
    extra = {"method": request.method, "route": route, "status": status, **facts}
    if resource is None:  # some clients put a key into the path
        extra["path"] = keys.hidden(request.path)[:_SHOWN]
    # Probes come every few seconds and would bury what people look for.
    level = logging.DEBUG if route in _PROBES else logging.INFO
    log.log(level, "request", extra={**extra, "ms": round(took * 1000, 1)})
