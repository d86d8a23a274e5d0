"""The endpoint's error replies, with Azure's status codes."""

from __future__ import annotations

from typing import Any

# https://learn.microsoft.com/azure/machine-learning/how-to-troubleshoot-online-endpoints
# The types and codes are those by which OpenAI's clients tell failures apart: some of them take
# anything that says invalid_request_error for a 400. What stands behind them is for /swagger.json.
STATUSES = {
    400: (
        *("invalid_request_error", "bad_request"),
        "not JSON, a field that is not as expected or not supported, or longer than the context",
    ),
    401: ("authentication_error", "invalid_api_key", "no key, or a wrong one"),
    403: ("permission_error", "forbidden", "nothing is kept here (/feedback)"),
    404: ("not_found_error", "not_found", "no such model or deployment, or none takes traffic"),
    405: ("invalid_request_error", "method_not_allowed", ""),
    408: ("timeout_error", "request_timeout", "the body or the answer took too long"),
    409: ("conflict_error", "conflict", ""),
    413: ("invalid_request_error", "payload_too_large", "the body is too large"),
    424: ("server_error", "model_error", "the model failed"),
    429: (
        "rate_limit_error",
        "rate_limit_exceeded",
        "slots and queue are full, or the key asks too often",
    ),
    431: ("invalid_request_error", "header_too_large", "the address or a header is too long"),
    500: ("server_error", "error", "an unforeseen failure"),
    503: (
        *("service_unavailable_error", "service_unavailable"),
        "the deployment is down and being started again",
    ),
    507: ("server_error", "not_kept", "the feedback file is full (/feedback)"),
}


class ApiError(Exception):
    """A request that ends in an error status.

    ``param`` is the field of the request that it is about, ``retry_after`` in whole seconds.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str = "",
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind, usual_code, _ = STATUSES.get(status, STATUSES[500])
        self.code = code or usual_code
        self.param = param
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}

    def body(self, route: str = "") -> dict[str, Any]:
        """The error as OpenAI's clients read it; of ``/score`` with what Azure's read, too."""
        error = {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}
        return {
            "error": error | ({"target": self.param, "details": []} if route == "/score" else {})
        }


class EngineError(Exception):
    """The engine refused or failed; ``status`` is the one it answered with."""

    def __init__(self, status: int, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
