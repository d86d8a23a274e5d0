"""Connections of clients: what is not HTTP is refused as JSON and counted, as any other request.

aiohttp answers it in plain text, and writes a stack trace for it and for a client that hangs up.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from aiohttp import http_exceptions, web

from setup.serve import observe
from setup.serve.contract.error_reply import ApiError

_BY_CLIENT = (ConnectionError, http_exceptions.HttpProcessingError, web.RequestPayloadError)


class Runner(web.AppRunner):
    """Runs an application, as aiohttp's does, with connections of this module."""

    async def _make_server(self) -> web.Server:
        return _Server(await super()._make_server())


class _Server(web.Server):
    """A server as ``made``: aiohttp has no setting for the class of its connections."""

    def __init__(self, made: web.Server) -> None:
        vars(self).update(vars(made))

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=asyncio.get_running_loop(), **self._kwargs)


class _Connection(web.RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what the parser refuses; there is none to a client that has gone."""
        if isinstance(exc, ConnectionError):
            raise exc  # aiohttp closes the connection; the request's own line says 499
        if not isinstance(exc, http_exceptions.HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        status, code, told = self._refusal(exc)
        request_id = uuid.uuid4().hex
        observe.count_unread(request_id, status, code)
        body = ApiError(status, told, code=code).body()
        headers = {"x-ms-request-id": request_id}
        response = web.json_response(body, status=status, headers=headers)
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log what went wrong here, and not what clients do: their requests have a line each."""
        if not isinstance(kw.get("exc_info"), _BY_CLIENT):
            super().log_exception(*args, **kw)

    def _refusal(self, error: http_exceptions.HttpProcessingError) -> tuple[int, str, str]:
        """Status, code and message, which quotes nothing of what was sent."""
        if isinstance(error, http_exceptions.LineTooLong):
            told = f"the address or a header is longer than {self.max_field_size} bytes"
            return 431, "header_too_large", told
        if "Too many headers" in error.message:  # it has no class of its own
            return 431, "header_too_large", f"there are more than {self.max_headers} headers"
        if isinstance(error, http_exceptions.ContentEncodingError):
            return 400, "bad_request", "the body's Content-Encoding is neither gzip nor deflate"
        told = "not HTTP/1.1: the first line, a header (Host is wanted) or a chunk; https:// is not"
        return 400, "malformed_request", told + " spoken here"
