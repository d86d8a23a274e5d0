"""Pages in a browser: from which origins they may call the endpoint (CORS).

A browser asks first, without a key, and shows a page the answers to its requests, errors and
streams alike, only where their headers allow its origin. The key is wanted all the same.
https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

import re

from aiohttp import web

from setup.serve.contract.error_reply import ApiError
from setup.serve.deployments import ENDPOINT
from setup.serve.observe import Handler

_LOOPBACK = re.compile(
    r"https?://(localhost|[a-z0-9.-]+\.localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?"
)


@web.middleware
async def answer_preflights(request: web.Request, handler: Handler) -> web.StreamResponse:
    """204 or 403 to a browser that asks whether it may send a page's request."""
    if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
        return await handler(request)
    if not _allowed(request):
        origin = request.headers.get("Origin", "")[:100]
        message = f"origin {origin!r} may not call this route; see endpoint.allowed_origins"
        raise ApiError(403, message, code="origin_not_allowed")
    headers = {
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Max-Age": "600",  # seconds
        # Any: what a header says is checked when it comes, and clients add some of their own.
        "Access-Control-Allow-Headers": request.headers.get("Access-Control-Request-Headers", ""),
    }
    return web.Response(status=204, headers=headers)


async def allow_origin(request: web.Request, response: web.StreamResponse) -> None:
    """Tell the browser, before a response's headers are sent, whether its page may read it."""
    response.headers["Vary"] = "Origin"
    if _allowed(request):
        response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
        response.headers["Access-Control-Expose-Headers"] = "Retry-After, x-ms-request-id"


def _allowed(request: web.Request) -> bool:
    """Deployments are never a page's business."""
    origin = request.headers.get("Origin", "").lower()
    origins = [known.lower() for known in request.app[ENDPOINT].settings.allowed_origins]
    if not origin or request.path.startswith("/manage"):
        return False
    loopback = "loopback" in origins and _LOOPBACK.fullmatch(origin)
    return bool(loopback) or "*" in origins or origin in origins
