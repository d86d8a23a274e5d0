"""A connection's keys, checked once and turned into typed settings."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

from .errors import ConfigurationError

CONTRACTS = ("auto", "score", "mlflow", "openai")
SYSTEM_ROLES = ("fold", "native")
ANSWER_LIMITS = ("auto", "max_tokens", "max_completion_tokens", "max_new_tokens", "both")
SAMPLING = ("send", "omit")
KEY_HEADERS = ("auto", "authorization", "api-key")
_API_KEY_HOSTS = (".openai.azure.com", ".cognitiveservices.azure.com")
_TOKENIZER_TIMEOUT = 10.0
_KEYS = {
    "endpoint": "the full scoring URL, such as https://NAME.REGION.inference.ml.azure.com/score",
    "key": "the endpoint's key, from the endpoint's Consume tab",
    "contract": f"one of {', '.join(CONTRACTS)}",
    "deployment": "the name of one deployment of the endpoint",
    "model": "the model name the server expects",
    "context_window": "the model's context window in tokens, such as 4096",
    "tokenizer": "the URL of the endpoint's /tokenize route",
    "system_role": f"one of {', '.join(SYSTEM_ROLES)}",
    "answer_limit": f"one of {', '.join(ANSWER_LIMITS)}",
    "sampling": f"one of {', '.join(SAMPLING)}",
    "key_header": f"one of {', '.join(KEY_HEADERS)}",
    "connect_timeout": "seconds, such as 5",
    "timeout": "seconds, such as 120",
    "concurrency": "how many questions the endpoint answers at a time, such as 4",
}


class ConnectionLike(Protocol):
    """The attributes of a promptflow ``CustomConnection``."""

    configs: Mapping[str, str]
    secrets: Mapping[str, str]


@dataclass(frozen=True)
class Settings:
    """The settings of a connection: where and how to ask; the key stays out of the repr.

    ``timeout`` is the total per request in seconds, retries and their waits included;
    ``connect_timeout`` bounds each attempt to connect; ``context_window`` is in tokens;
    ``concurrency`` is for callers with many questions: how many to ask at a time. ``auto`` says
    that the contract was left to be found out, ``name`` is the connection's where it is known.
    """

    endpoint: str
    key: str = field(repr=False)
    contract: str
    deployment: str = ""
    model: str = ""
    context_window: int = 4096
    tokenizer: str = ""
    system_role: str = "fold"
    connect_timeout: float = 5.0
    timeout: float = 120.0
    concurrency: int = 4
    answer_limit: str = "auto"
    sampling: str = "send"
    key_header: str = "authorization"
    auto: bool = False
    name: str = field(default="", compare=False)

    @classmethod
    def from_connection(cls, connection: ConnectionLike) -> Settings:
        """Settings of a custom connection, see :meth:`from_values`.

        Foundry's custom keys put every entry, endpoint included, into ``secrets``; ``pf`` keeps
        them apart. Both are read, ``secrets`` first.
        """
        values = {**(connection.configs or {}), **(connection.secrets or {})}
        return replace(cls.from_values(values), name=str(getattr(connection, "name", "") or ""))

    @classmethod
    def from_values(cls, values: Mapping[str, str]) -> Settings:
        """Settings from one flat mapping; names are read without regard to case.

        Raises:
            ConfigurationError: naming the first key that is missing, malformed, misspelt or
                still a placeholder. A secret is never quoted.
        """
        entries = {name.lower(): str(value or "").strip() for name, value in values.items()}
        _refuse_misspelt(entries)
        entries = {name: value for name, value in entries.items() if name in _KEYS and value}
        for name, value in entries.items():
            _refuse_placeholder(name, value)
        endpoint = _url(entries, "endpoint")
        said = _choice(entries, "contract", CONTRACTS)
        contract = _contract_of(endpoint) if said == "auto" else said
        return cls(
            endpoint=_with_openai_path(endpoint) if contract == "openai" else endpoint.geturl(),
            key=_key(entries),
            contract=contract,
            deployment=_header_value(entries, "deployment"),
            model=entries.get("model", ""),
            context_window=_positive_int(entries, "context_window", 4096),
            tokenizer=_url(entries, "tokenizer").geturl() if "tokenizer" in entries else "",
            system_role=_choice(entries, "system_role", SYSTEM_ROLES),
            connect_timeout=_seconds(entries, "connect_timeout", 5.0),
            timeout=_seconds(entries, "timeout", 120.0),
            concurrency=_positive_int(entries, "concurrency", 4),
            answer_limit=_choice(entries, "answer_limit", ANSWER_LIMITS),
            sampling=_choice(entries, "sampling", SAMPLING),
            key_header=_key_header(entries, endpoint),
            auto=said == "auto",
        )

    def how_to_set(self, key: str, value: str, note: str = "") -> str:
        """The fix that gives the connection's ``key`` another value; it ends in the command."""
        command = f"pf connection update --name {self.name or 'NAME'} --set configs.{key}={value}"
        return f"set the connection's '{key}' to {value}{note}: {command}"

    @property
    def tokenizer_timeout(self) -> float:
        """Seconds one question to the tokenizer may take: counting is quick or it is broken."""
        return min(self.timeout, _TOKENIZER_TIMEOUT)


def place(url: str) -> str:
    """Host and path of ``url``, for messages: no user, no query."""
    parts = urlsplit(url)
    return f"{parts.hostname or '?'}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _wrong(name: str, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"the connection's key '{name}' {what}",
        fix=f"set '{name}' to {_KEYS[name]} (see connections/README.md)",
    )


def _refuse_misspelt(entries: Mapping[str, str]) -> None:
    for name in entries:
        close = difflib.get_close_matches(name, _KEYS, n=1, cutoff=0.8)
        if name not in _KEYS and close:
            raise ConfigurationError(
                f"the connection has a key '{name}' that nothing reads",
                fix=f"rename it to '{close[0]}'",
            )


def _refuse_placeholder(name: str, value: str) -> None:
    """``pf flow test`` and ``pf run`` pass ``${env:NAME}`` on unresolved; ``pf connection show``
    masks secrets with asterisks, and templates hold ``<…>``: none of them is a value."""
    if "${" in value:
        raise _wrong(name, "holds a ${…} reference, which pf resolves in 'pf flow serve' only")
    masked = set(value) == {"*"}
    if masked or re.fullmatch(r"<.*>", value) or (name != "key" and re.search(r"<[^<>]+>", value)):
        raise _wrong(name, "still holds its placeholder")


def _key(entries: Mapping[str, str]) -> str:
    if "key" not in entries:
        raise _wrong("key", "is missing")
    if not re.fullmatch(r"[\x21-\x7e]+", entries["key"]):
        raise _wrong("key", "holds a character no HTTP header may carry")
    return entries["key"]


def _key_header(entries: Mapping[str, str], endpoint: SplitResult) -> str:
    header = _choice(entries, "key_header", KEY_HEADERS)
    if header != "auto":
        return header
    azure_openai = (endpoint.hostname or "").endswith(_API_KEY_HOSTS)
    return "api-key" if azure_openai else "authorization"


def _header_value(entries: Mapping[str, str], name: str) -> str:
    value = entries.get(name, "")
    if value and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", value):
        raise _wrong(name, "is not a deployment name (letters, digits and . _ - only)")
    return value


def _url(entries: Mapping[str, str], name: str) -> SplitResult:
    if name not in entries:
        raise _wrong(name, "is missing")
    try:
        parts = urlsplit(entries[name])
        parts.port  # noqa: B018  # urllib.parse checks the port only when it is read
    except ValueError:
        raise _wrong(name, "is not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _wrong(name, "is not an http or https URL")
    if parts.username or parts.password or re.search(r"[\s\x00-\x1f\x7f]", entries[name]):
        raise _wrong(name, "holds a user, a space or a control character")
    return parts._replace(fragment="")


def _choice(entries: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    value = entries.get(name, choices[0]).lower()
    if value not in choices:
        raise _wrong(name, "has a value nothing knows")
    return value


def _positive_int(entries: Mapping[str, str], name: str, default: int) -> int:
    value = entries.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", value) or int(value) < 1:
        raise _wrong(name, "is not a whole number above 0")
    return int(value)


def _seconds(entries: Mapping[str, str], name: str, default: float) -> float:
    value = entries.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,6})?", value) or float(value) <= 0:
        raise _wrong(name, "is not a number of seconds above 0 and below 100000")
    return float(value)


def _contract_of(endpoint: SplitResult) -> str:
    path = endpoint.path.rstrip("/")
    return "openai" if path.endswith(("/chat/completions", "/v1")) else "score"


def _with_openai_path(endpoint: SplitResult) -> str:
    path = endpoint.path.rstrip("/")
    if path.endswith("/v1"):
        path += "/chat/completions"
    return endpoint._replace(path=path or "/v1/chat/completions").geturl()
