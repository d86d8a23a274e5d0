"""What goes over the wire: a request as it was sent, and the reply a handler makes of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

WRITING = ("PUT", "POST", "PATCH", "DELETE")


@dataclass
class Request:
    """One request, as recorded; ``status`` is 0 while it is being answered or was cut off.

    ``path`` is unquoted and without the query; ``headers`` are found in any case; ``contract``
    names the published contract its body was held against, empty if there is none.
    """

    method: str
    host: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes = b""
    status: int = 0
    contract: str = ""

    @property
    def body(self) -> Any:
        """The JSON that was sent, None for an empty body.

        Raises:
            AzureError: 400, it is not JSON.
        """
        if not self.raw:
            return None
        try:
            return json.loads(self.raw)
        except ValueError:
            raise AzureError(400, "InvalidRequestContent", "the body is not JSON") from None

    @property
    def api_version(self) -> str:
        """The ``api-version`` of the query."""
        return self.query.get("api-version", "")

    @property
    def line(self) -> str:
        """METHOD host/path, what faults and tests are matched against."""
        return f"{self.method} {self.host}{self.path}"

    def __str__(self) -> str:
        return f"{self.line} -> {self.status}"


@dataclass
class Reply:
    """What a handler answers: ``body`` is JSON unless it is text or bytes.

    ``reason`` is what stands beside the status, where it is not the usual phrase.
    """

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    reason: str | None = None

    def encoded(self) -> tuple[bytes, str]:
        """The body as bytes, and its content type."""
        if self.body is None:
            return b"", ""
        if isinstance(self.body, bytes):
            return self.body, "application/octet-stream"
        if isinstance(self.body, str):
            kind = "application/xml" if self.body.startswith("<?xml") else "text/plain"
            return self.body.encode(), kind
        return json.dumps(self.body).encode(), "application/json"


class AzureError(Exception):
    """A refusal in Azure's shape: ``{"error": {"code", "message"}}``."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.headers = {key.replace("_", "-"): value for key, value in headers.items()}
        self.log = ""
        self.details: list[AzureError] = []
        self.information: list[dict[str, Any]] = []

    @property
    def body(self) -> dict[str, Any]:
        """As it is sent, and as a failed long-running operation shows it."""
        details = [error.body["error"] for error in self.details]
        found: dict[str, Any] = {"code": self.code, "message": self.message}
        more = {"details": details, "additionalInfo": self.information}
        return {"error": found | {key: value for key, value in more.items() if value}}

    def reply(self) -> Reply:
        """As an answer."""
        return Reply(self.status, self.body, {"x-ms-error-code": self.code} | self.headers)


class DroppedError(Exception):
    """The connection is cut without an answer."""
