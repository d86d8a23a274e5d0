"""A server that does not take a part of the request, and the setting that leaves the part out.

Each names the part in words of its own: OpenAI says ``Unsupported parameter: 'max_tokens'``,
transformers ``model_kwargs are not used by the model: ['max_tokens']``, pydantic ``Extra inputs are
not permitted``, a chat template ``System role not supported``.
"""

from __future__ import annotations

import json
import re
from typing import Any

from .settings import Settings

LIMITS = ("max_tokens", "max_new_tokens", "max_completion_tokens")
_SAMPLING = ("temperature", "top_p", "do_sample")
_FIELD = re.compile(rf"\b({'|'.join((*LIMITS, *_SAMPLING, 'seed', 'stream'))})\b")
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
_MODEL = re.compile(
    r"\bmodel\b[^.]{0,40}\b(required|missing|does not exist|not found|not exist|unknown|invalid)\b"
    r"|\bprovide (a|the) model\b|\b(missing|invalid|unknown|no such)\b[^.]{0,20}\bmodel\b"
)


def refusal(text: str, settings: Settings) -> tuple[str, str]:
    """The part of the request that ``text``, an error body, does not take, and what leaves it out.

    The part is a generation setting by its name in the request, ``system`` or ``model``; both are
    empty where the body says something else.
    """
    field, lower = _setting(text), text.lower()
    if field:
        return field, _without(field, lower, settings)
    if settings.system_role == "native" and _SYSTEM.search(lower):
        return "system", settings.how_to_set("system_role", "fold")
    if settings.contract == "openai" and (_MODEL.search(lower) or _lacks_model(text)):
        return "model", settings.how_to_set("model", "MODEL", ", a name out of its /v1/models")
    return "", ""


def _setting(text: str) -> str:
    lower, error = text.lower(), _error_of(text)
    param = error.get("param")
    if error.get("code") in _CODES and isinstance(param, str):
        return param
    if not _NOT_TAKEN.search(lower) or _TOO_MUCH.search(lower):
        return ""
    names = _FIELD.findall(lower)
    return "max_tokens" if {"max_tokens", "max_new_tokens"} <= set(names) else "".join(names[:1])


def _without(field: str, lower: str, settings: Settings) -> str:
    if field in LIMITS:
        return settings.how_to_set("answer_limit", _other_limit(field, settings))
    if field in _SAMPLING:
        omit = settings.how_to_set("sampling", "omit", ", and the model samples in its own way")
        if "positive" in lower:
            return f"ask with a temperature above 0 (--variant '${{chat.varied}}'), or {omit}"
        return omit
    value = {"seed": "-1", "stream": "false"}.get(field)
    if value is None:
        return "see what the server takes"
    return f"set the chat node's '{field}' to {value} in flow.dag.yaml"


def limit_hint(settings: Settings) -> str:
    """The rest of a fix for contract A, whose scoring scripts do not say what they raised."""
    if settings.contract != "score" or settings.answer_limit not in ("auto", "both"):
        return ""
    return f"; where that names max_tokens, {settings.how_to_set('answer_limit', 'max_new_tokens')}"


def wants_api_key_header(text: str, settings: Settings) -> bool:
    """Tell whether a refused key should have come in the header ``api-key``, as at Azure OpenAI."""
    said = re.search(r"api[-_]key|subscription key", text.lower()) is not None
    return said and settings.key_header != "api-key"


def _other_limit(field: str, settings: Settings) -> str:
    if settings.contract != "openai":
        return "max_tokens" if field == "max_new_tokens" else "max_new_tokens"
    sent = settings.answer_limit if settings.answer_limit in LIMITS else "max_tokens"
    if field != sent:
        return field  # it is asked for, not refused
    return "max_tokens" if field == "max_completion_tokens" else "max_completion_tokens"


def _lacks_model(text: str) -> bool:
    """Tell whether it is pydantic's ``{"detail": [{"loc": ["body", "model"], …}]}``."""
    detail = _load(text).get("detail")
    entries = detail if isinstance(detail, list) else []
    return any("model" in (e.get("loc") or ()) for e in entries if isinstance(e, dict))


def _error_of(text: str) -> dict[str, Any]:
    error = _load(text).get("error")
    return error if isinstance(error, dict) else {}


def _load(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
