"""The meaning of a status that is not 200, of what the server says with it, and what to do.

Azure ML managed endpoints:
https://learn.microsoft.com/azure/machine-learning/how-to-troubleshoot-online-endpoints

A server that does not take a part of the request names it in words of its own: OpenAI says
``Unsupported parameter: 'max_tokens'``, transformers ``model_kwargs are not used by the model:
['max_tokens']``, pydantic ``Extra inputs are not permitted``, a chat template ``System role not
supported``. The fix is then the setting that leaves the part out.
"""

from __future__ import annotations

import json
import re
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
from .settings import Settings

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

_LIMITS = ("max_tokens", "max_new_tokens", "max_completion_tokens")
_SAMPLING = ("temperature", "top_p", "do_sample")
_FIELD = re.compile(rf"\b({'|'.join((*_LIMITS, *_SAMPLING, 'seed', 'stream'))})\b")
_CODES = ("unsupported_parameter", "unsupported_value", "unknown_parameter")
_NOT_TAKEN = re.compile(
    r"unsupported|not support|unrecogni[sz]ed|unknown|unexpected|not used by|not permitted"
    r"|not allowed|not accept|extra_forbidden|extra fields|invalid param|mutually exclusive"
    r"|\bboth\b|strictly positive|only the default|\bonly\b.{0,20}\b1\b|must be (set to )?1\b"
    r"|deprecated|cannot be|can't be|not valid|\bremove\b|\b(requires?|use) .?max_\w+tokens"
)
_TOO_MUCH = re.compile(r"too (large|high|big)|at most|exceed|less than|greater than|maximum value")
_SYSTEM = re.compile(
    r"system[ _-]?(role|message|prompt)s?\b.{0,60}(not|un)[ -]?(supported|allowed|permitted)"
    r"|(not support|unsupported|invalid|unknown).{0,40}\bsystem\b"
    r"|only user.{0,40} roles|roles must alternate"
)
_ABOUT_THE_HEADER = re.compile(r"api[-_]key|subscription key")
_MODEL = re.compile(
    r"\bmodel\b[^.]{0,40}\b(required|missing|does not exist|not found|not exist|unknown|invalid)\b"
    r"|\bprovide (a|the) model\b|\b(missing|invalid|unknown|no such)\b[^.]{0,20}\bmodel\b"
)


def failure(
    status: int, headers: Mapping[str, str], body: bytes, settings: Settings
) -> EndpointError:
    """The error for ``status``, quoting what the server says with the key removed from it."""
    if 300 <= status < 400:
        return _redirected(headers.get("location", ""), settings.key)
    text = body.decode("utf-8", "replace")
    said = _said_by(text, headers.get("content-type", ""), settings.key)
    special = special_case(text, said) if status < 500 else None
    if special is not None:
        return special
    kind, what, fix = _KINDS.get(status) or _other(status)
    refused, helps = refusal(text, settings) if status in _ABOUT_THE_REQUEST else ("", "")
    helps = helps or _fix_of(status, text, settings)
    error = kind(f"{status}: {what}{said}", fix=helps or fix)
    error.status, error.refused = status, refused
    return error


def _fix_of(status: int, text: str, settings: Settings) -> str:
    """The setting that helps where the status and the server's words point to one; else empty."""
    by_header = settings.key_header == "api-key"  # as Azure OpenAI wants it
    if status in (401, 403) and not by_header and _ABOUT_THE_HEADER.search(text.lower()):
        header = settings.how_to_set("key_header", "api-key")
        return f"{_KEY_FIX}; where it is, {header}"
    if status == 404 and by_header and "api-version" not in urlsplit(settings.endpoint).query:
        return "end the connection's 'endpoint' in ?api-version=…, as Azure OpenAI's URLs do"
    hint = limit_hint(settings) if status == 424 else ""
    return f"{_KINDS[424][2]}{hint}" if hint else ""


def special_case(text: str, said: str) -> EndpointError | None:
    """The error when ``text``, an error body, tells of content safety or of a full context."""
    lower = text.lower()
    if any(word in lower for word in _BLOCKED):
        what = f"content safety blocked the request{said}"
        return ContentBlockedError(what, fix="rephrase the question")
    if any(word in lower for word in _TOO_LONG):
        return QuestionTooLargeError(
            f"the prompt does not fit the model{said}",
            fix="shorten the question, lower max_new_tokens, or set 'context_window' to the "
            "model's",
        )
    return None


def _said_by(text: str, content_type: str, key: str) -> str:
    """``, it says: …`` with the server's own words on one line, or nothing worth quoting."""
    try:
        text = _message_of(json.loads(text))
    except (ValueError, RecursionError):
        text = "" if "html" in content_type or text.lstrip().startswith("<") else text
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


def _redirected(location: str, key: str) -> RequestRefusedError:
    parts = urlsplit(location) if "://" in location else urlsplit("")
    target = quoted(f"{parts.hostname or ''}{parts.path}", key) or "another path"
    return RequestRefusedError(
        f"the endpoint redirects to {target}, and the key is not sent after a redirect",
        fix="set the connection's 'endpoint' to the final URL if you trust it",
    )


def _other(status: int) -> tuple[type[EndpointError], str, str]:
    if status >= 500:
        return EngineError, "the endpoint failed", "see the endpoint's log"
    name = next((s.phrase.lower() for s in HTTPStatus if s == status), "an unusual status")
    fix = "check the connection's 'contract' and 'endpoint', and the settings of the request"
    return RequestRefusedError, f"the endpoint refused the request ({name})", fix


def refusal(text: str, settings: Settings) -> tuple[str, str]:
    """The part of the request that ``text``, an error body, does not take, and what leaves it out.

    The part is a generation setting by its name in the request, ``system`` or ``model``; both are
    empty where the body says something else.
    """
    body, lower = _load(text), text.lower()
    field = _setting(body, lower)
    if field:
        return field, _without(field, lower, settings)
    if settings.system_role == "native" and _SYSTEM.search(lower):
        return "system", settings.how_to_set("system_role", "fold")
    if settings.contract == "openai" and (_MODEL.search(lower) or _lacks_model(body)):
        return "model", settings.how_to_set("model", "MODEL", ", a name out of its /v1/models")
    return "", ""


def _setting(body: dict[str, Any], lower: str) -> str:
    error = body.get("error")
    error = error if isinstance(error, dict) else {}
    if error.get("code") in _CODES and isinstance(error.get("param"), str):
        return str(error["param"])
    if not _NOT_TAKEN.search(lower) or _TOO_MUCH.search(lower):
        return ""
    names = _FIELD.findall(lower)
    return "max_tokens" if {"max_tokens", "max_new_tokens"} <= set(names) else "".join(names[:1])


def _without(field: str, lower: str, settings: Settings) -> str:
    if field in _LIMITS:
        return settings.how_to_set("answer_limit", _other_limit(field, settings))
    if field in _SAMPLING:
        omit = settings.how_to_set("sampling", "omit", ", and the model samples in its own way")
        if "positive" in lower:
            return f"ask with a temperature above 0 (--variant '${{chat.varied}}'), or {omit}"
        return omit
    if field in ("seed", "stream"):
        value = "-1" if field == "seed" else "false"
        return f"set the chat node's '{field}' to {value} in flow.dag.yaml"
    return "see what the server takes"


def limit_hint(settings: Settings) -> str:
    """The rest of a fix for contract A, whose scoring scripts do not say what they raised."""
    if settings.contract != "score" or settings.answer_limit not in ("both", "max_tokens"):
        return ""
    return f"; where that names max_tokens, {settings.how_to_set('answer_limit', 'max_new_tokens')}"


def _other_limit(field: str, settings: Settings) -> str:
    newer = "max_completion_tokens" if settings.contract == "openai" else "max_new_tokens"
    usual = "max_tokens" if settings.contract == "openai" else "max_new_tokens"
    sent = settings.answer_limit if settings.answer_limit in _LIMITS else usual
    if field != sent and settings.answer_limit != "both":
        return field  # it is asked for, not refused
    return "max_tokens" if field == newer else newer


def _lacks_model(body: dict[str, Any]) -> bool:
    """Tell whether it is pydantic's ``{"detail": [{"loc": ["body", "model"], …}]}``."""
    detail = body.get("detail")
    entries = detail if isinstance(detail, list) else []
    return any("model" in (e.get("loc") or ()) for e in entries if isinstance(e, dict))


def _load(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
