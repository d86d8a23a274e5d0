"""The meaning of a status that is not 200, and what to do about it.

Azure ML managed endpoints:
https://learn.microsoft.com/azure/machine-learning/how-to-troubleshoot-online-endpoints
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlsplit

from .errors import (
    AuthenticationError,
    ContentBlockedError,
    EndpointError,
    EngineError,
    ModelError,
    NotFoundError,
    PayloadTooLargeError,
    QuestionTooLargeError,
    RequestRefusedError,
    ThrottledError,
    TimedOutError,
    UnavailableError,
    one_line,
)
from .refusals import limit_hint, refusal, wants_api_key_header
from .settings import Settings, place

_KEY_FIX = "set the connection's 'key' to the endpoint's current key, from its Consume tab"
_BUSY_FIX = "ask again later, send less at once, or give the deployment more instances"
_KINDS: dict[int, tuple[type[EndpointError], str, str]] = {
    401: (AuthenticationError, "the endpoint does not accept the key", _KEY_FIX),
    403: (AuthenticationError, "the key may not use this endpoint", _KEY_FIX),
    404: (
        NotFoundError,
        "the endpoint has no such route or deployment",
        "check the path in 'endpoint' and the name in 'deployment'",
    ),
    408: (
        TimedOutError,
        "the endpoint gave up before the answer was ready",
        "lower max_new_tokens, or raise the deployment's request_timeout_ms",
    ),
    413: (PayloadTooLargeError, "the request is too large for the endpoint", "send less text"),
    424: (
        ModelError,
        "the model's own code failed",
        "look for the exception in the deployment's log",
    ),
    429: (ThrottledError, "the endpoint is busy and turned the request away", _BUSY_FIX),
    502: (UnavailableError, "the endpoint's container is not answering", "see its log"),
    503: (UnavailableError, "the endpoint is not ready", "wait for the deployment, or see its log"),
    504: (UnavailableError, "a gateway stopped waiting for the endpoint", "lower max_new_tokens"),
}
_ABOUT_THE_REQUEST = (400, 404, 422, 424, 500)
_TOO_LONG = ("context_length_exceeded", "exceed_context_size_error", "maximum context length")
_BLOCKED = ("content_filter", "contentfilter", "responsibleaipolicyviolation")


def failure(
    status: int, headers: Mapping[str, str], body: bytes, url: str, settings: Settings
) -> EndpointError:
    """The error for ``status``, quoting what the server says with the key removed from it."""
    where, key = place(url), settings.key
    if 300 <= status < 400:
        return _redirected(headers.get("location", ""), where, key)
    said = said_by(body, headers.get("content-type", ""), key)
    text = body.decode("utf-8", "replace")
    special = special_case(text, said, where) if status < 500 else None
    if special is not None:
        return special
    kind, what, fix = _KINDS.get(status) or _other(status)
    refused, helps = refusal(text, settings) if status in _ABOUT_THE_REQUEST else ("", "")
    helps = helps or _fix_of(status, text, settings)
    error = kind(f"{status}: {what}{said}", where, helps or fix)
    error.status, error.refused = status, refused
    return error


def _fix_of(status: int, text: str, settings: Settings) -> str:
    """The setting that helps where the status and the server's words point to one; else empty."""
    if status in (401, 403) and wants_api_key_header(text, settings):
        header = settings.how_to_set("key_header", "api-key")
        return f"{_KEY_FIX}; where it is, {header}"
    query = urlsplit(settings.endpoint).query
    if status == 404 and settings.key_header == "api-key" and "api-version" not in query:
        return "end the connection's 'endpoint' in ?api-version=…, as Azure OpenAI's URLs do"
    hint = limit_hint(settings) if status == 424 else ""
    return f"{_KINDS[424][2]}{hint}" if hint else ""


def special_case(text: str, said: str, where: str) -> EndpointError | None:
    """The error when ``text``, an error body, tells of content safety or of a full context."""
    lower = text.lower()
    if any(word in lower for word in _BLOCKED):
        return ContentBlockedError(
            f"content safety blocked the request{said}", where, "rephrase the question"
        )
    if any(word in lower for word in _TOO_LONG):
        return QuestionTooLargeError(
            f"the prompt does not fit the model{said}",
            where,
            "shorten the question, lower max_new_tokens, or set 'context_window' to the model's",
        )
    return None


def said_by(body: bytes, content_type: str, key: str) -> str:
    """``, it says: …`` with the server's own words on one line, or nothing worth quoting."""
    text = body.decode("utf-8", "replace")
    try:
        text = _message_of(json.loads(text))
    except (ValueError, RecursionError):
        if "html" in content_type or text.lstrip().startswith("<"):
            text = ""
    line = quoted(text, key)
    return f", it says: {line}" if line else ""


def quoted(text: str, key: str) -> str:
    """``text`` of a server, fit for a message: one line of at most 200 characters without the key,
    as it is or as JSON or a URL escapes it."""
    for written in (key, json.dumps(key)[1:-1], quote(key, safe="")):
        text = text.replace(written, "***")
    return one_line(text, 200).rstrip(".")


def _message_of(value: Any) -> str:
    """The words of the usual error bodies: ``{"error": {"message": …}}``, ``{"detail": …}``."""
    while isinstance(value, dict):
        parts = [value[name] for name in ("error", "message", "detail") if value.get(name)]
        value = parts[0] if parts else ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _redirected(location: str, where: str, key: str) -> RequestRefusedError:
    parts = urlsplit(location) if "://" in location else urlsplit("")
    target = quoted(f"{parts.hostname or ''}{parts.path}", key) or "another path"
    return RequestRefusedError(
        f"the endpoint redirects to {target}, and the key is not sent after a redirect",
        where,
        "set the connection's 'endpoint' to the final URL if you trust it",
    )


def _other(status: int) -> tuple[type[EndpointError], str, str]:
    if status >= 500:
        return EngineError, "the endpoint failed", "see the endpoint's log"
    name = next((s.phrase.lower() for s in HTTPStatus if s == status), "an unusual status")
    fix = "check the connection's 'contract' and 'endpoint', and the settings of the request"
    return RequestRefusedError, f"the endpoint refused the request ({name})", fix
