"""A connection's keys, checked once and turned into typed settings."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import SplitResult, urlsplit

from .errors import ConfigurationError

_CHOICES = {
    "contract": ("auto", "score", "mlflow", "openai"),
    "system_role": ("fold", "native"),
    "answer_limit": ("auto", "max_tokens", "max_completion_tokens", "max_new_tokens", "both"),
    "sampling": ("send", "omit"),
    "key_header": ("auto", "authorization", "api-key"),
}
_API_KEY_HOSTS = (".openai.azure.com", ".cognitiveservices.azure.com")
_KEYS = {
    "endpoint": "the full scoring URL, such as https://NAME.REGION.inference.ml.azure.com/score",
    "key": "the endpoint's key, from the endpoint's Consume tab",
    "deployment": "the name of one deployment of the endpoint",
    "model": "the model name the server expects",
    "context_window": "the model's context window in tokens, such as 4096",
    "tokenizer": "the URL of the endpoint's /tokenize route",
    "connect_timeout": "seconds, such as 5",
    "timeout": "seconds, such as 120",
    "concurrency": "how many questions the endpoint answers at a time, such as 4",
    **{name: f"one of {', '.join(choices)}" for name, choices in _CHOICES.items()},
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
        return cls.from_values(values, str(getattr(connection, "name", "") or ""))

    @classmethod
    def from_values(cls, values: Mapping[str, str], name: str = "") -> Settings:
        """Settings from one flat mapping; names are read without regard to case.

        Every question of a run comes with the same values: they are read once.

        Raises:
            ConfigurationError: naming the first key that is missing, malformed, misspelt or
                still a placeholder. A secret is never quoted.
        """
        entries = ((key.lower(), str(value or "").strip()) for key, value in values.items())
        return _read(tuple(entries), name)

    def how_to_set(self, key: str, value: str, note: str = "") -> str:
        """The fix that gives the connection's ``key`` another value; it ends in the command."""
        command = f"pf connection update --name {self.name or 'NAME'} --set configs.{key}={value}"
        return f"set the connection's '{key}' to {value}{note}: {command}"


def place(url: str) -> str:
    """Host and path of ``url``, for messages: no user, no query."""
    parts = urlsplit(url)
    return f"{parts.hostname or '?'}{f':{parts.port}' if parts.port else ''}{parts.path}"


@functools.lru_cache(maxsize=16)
def _read(values: tuple[tuple[str, str], ...], connection: str) -> Settings:
    _refuse_misspelt(name for name, _ in values)
    entries = {name: value for name, value in values if name in _KEYS and value}
    for name, value in entries.items():
        _refuse_placeholder(name, value)
    for name in ("endpoint", "key"):
        if name not in entries:
            raise _wrong(name, "is missing")
    read: dict[str, Any] = {name: _READERS[name](name, value) for name, value in entries.items()}
    endpoint: SplitResult = read["endpoint"]
    auto = read.get("contract", "auto") == "auto"
    contract = _contract_of(endpoint) if auto else read["contract"]
    if read.get("key_header", "auto") == "auto":
        azure_openai = (endpoint.hostname or "").endswith(_API_KEY_HOSTS)
        read["key_header"] = "api-key" if azure_openai else "authorization"
    if "tokenizer" in read:
        read["tokenizer"] = read["tokenizer"].geturl()
    url = _with_openai_path(endpoint) if contract == "openai" else endpoint.geturl()
    return Settings(**{**read, "endpoint": url, "contract": contract}, auto=auto, name=connection)


def _wrong(name: str, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"the connection's key '{name}' {what}",
        fix=f"set '{name}' to {_KEYS[name]} (see connections/README.md)",
    )


def _refuse_misspelt(names: Iterable[str]) -> None:
    for name in names:
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


def _matching(pattern: str, what: str) -> Callable[[str, str], str]:
    def read(name: str, value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise _wrong(name, what)
        return value

    return read


def _url(name: str, value: str) -> SplitResult:
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018  # urllib.parse checks the port only when it is read
    except ValueError:
        raise _wrong(name, "is not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _wrong(name, "is not an http or https URL")
    if parts.username or parts.password or re.search(r"[\s\x00-\x1f\x7f]", value):
        raise _wrong(name, "holds a user, a space or a control character")
    return parts._replace(fragment="")


def _choice(name: str, value: str) -> str:
    if value.lower() not in _CHOICES[name]:
        raise _wrong(name, "has a value nothing knows")
    return value.lower()


def _positive_int(name: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value) or int(value) < 1:
        raise _wrong(name, "is not a whole number above 0")
    return int(value)


def _seconds(name: str, value: str) -> float:
    if not re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,6})?", value) or float(value) <= 0:
        raise _wrong(name, "is not a number of seconds above 0 and below 100000")
    return float(value)


_READERS: dict[str, Callable[[str, str], Any]] = {
    **dict.fromkeys(_CHOICES, _choice),
    **dict.fromkeys(("endpoint", "tokenizer"), _url),
    **dict.fromkeys(("connect_timeout", "timeout"), _seconds),
    **dict.fromkeys(("context_window", "concurrency"), _positive_int),
    "key": _matching(r"[\x21-\x7e]+", "holds a character no HTTP header may carry"),
    "deployment": _matching(
        r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}",
        "is not a deployment name (letters, digits and . _ - only)",
    ),
    "model": lambda _, value: value,
}


def _contract_of(endpoint: SplitResult) -> str:
    path = endpoint.path.rstrip("/")
    return "openai" if path.endswith(("/chat/completions", "/v1")) else "score"


def _with_openai_path(endpoint: SplitResult) -> str:
    path = endpoint.path.rstrip("/")
    if path.endswith("/v1"):
        path += "/chat/completions"
    return endpoint._replace(path=path or "/v1/chat/completions").geturl()
