"""The files of the page, as they are; they hold no secret and need no key.

Nothing runs but what is in them: no script or style within the page, nothing from elsewhere.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from aiohttp import web

from setup.serve.contract.error_reply import ApiError
from setup.serve.observe import Handler

ROUTE = "/pages/{name}"
_KINDS = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@web.middleware
async def show_page(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer ``GET /`` of a browser with the page."""
    is_browser = "text/html" in request.headers.get("Accept", "")
    if request.path == "/" and request.method in ("GET", "HEAD") and is_browser:
        return file_reply("compare.html")
    return await handler(request)


async def static_file(request: web.Request) -> web.Response:
    """``GET /pages/NAME``."""
    return file_reply(request.match_info["name"])


def file_reply(name: str) -> web.Response:
    """The file ``name``; ApiError 404 where there is none."""
    content = _files().get(name)
    if content is None:
        raise ApiError(404, f"no file {name[:100]!r}; there are: {', '.join(_files())}")
    kind = _KINDS[Path(name).suffix]
    return web.Response(body=content, content_type=kind, charset="utf-8", headers=_HEADERS)


@cache
def _files() -> dict[str, bytes]:
    files = sorted(Path(__file__).parent.iterdir())
    return {path.name: path.read_bytes() for path in files if path.suffix in _KINDS}
