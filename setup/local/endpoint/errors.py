"""What the endpoint answers when it cannot answer, with Azure's status codes."""

from __future__ import annotations

from typing import Any

# https://learn.microsoft.com/azure/machine-learning/how-to-troubleshoot-online-endpoints
_CODES = {
    400: "bad_request",
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    409: "conflict",
    413: "payload_too_large",
    422: "unprocessable_entity",
    424: "model_error",
    429: "too_many_requests",
    503: "service_unavailable",
}


class ApiError(Exception):
    """A request that ends in an error status; ``retry_after`` in whole seconds."""

    def __init__(
        self, status: int, message: str, *, code: str = "", retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code or _CODES.get(status, "error")
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}

    def body(self) -> dict[str, Any]:
        """The error in the shape both contracts share."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": str(self), "type": kind, "code": self.code}}


class EngineError(Exception):
    """The engine refused or failed; ``status`` is the one it answered with."""

    def __init__(self, status: int, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
