"""The dialects that endpoints turned out to take, kept for the process: each is found out once.

Fine-tunes of Azure's catalog without vLLM take contract A's request and answer as contract B does;
MLflow deployments want contract B altogether, vLLM contract C on a path of its own. A connection
whose settings are ``auto`` meets them with a request or two that are refused, before any answer.
Azure says nothing of why a scoring script raised: its bare 424 may be the wrong contract, too.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator
from dataclasses import replace
from urllib.parse import urlsplit

from .errors import EndpointError, ModelError, NotFoundError, RequestRefusedError
from .settings import Settings, place

_logger = logging.getLogger("flows.chat.scoring_client")
_lock = threading.Lock()
_dialects: dict[tuple[str, str], Dialect] = {}
_CHAT = "/v1/chat/completions"
_NO_ROUTE = (404, 405)
_BARE = (400, 422, 424)


class Dialect:
    """Of one endpoint; safe to share between threads."""

    def __init__(self) -> None:
        self._limit = ""
        self._contract = ""
        self._answers_as = ""
        self._tried: set[str] = set()
        self._trial = threading.Lock()  # held by the thread that tries other contracts
        self._told: set[str] = set()

    def apply(self, settings: Settings) -> Settings:
        """``settings`` with what is known in the place of ``auto``."""
        if self._limit and settings.answer_limit == "auto":
            settings = replace(settings, answer_limit=self._limit)
        return _asked_by(settings, self._contract) if self._contract else settings

    def learnt(self, settings: Settings) -> dict[str, str]:
        """Return the connection's keys that say outright what ``settings`` left to be found out."""
        known = self.apply(settings)
        said = {"answer_limit": self._limit} if self._limit else {}
        if not settings.auto or not self._answers_as:
            return said
        # Contract A's request with another one's answer has no name but auto.
        mixed = self._answers_as != known.contract
        contract = {"contract": "auto" if mixed else known.contract}
        return said | contract | ({} if mixed else {"endpoint": known.endpoint})

    def other_limit(self, settings: Settings, error: EndpointError) -> Settings | None:
        """Settings with the other name of the longest answer, where the endpoint asks for it."""
        spelt = error.refused in ("max_tokens", "max_new_tokens")
        if not spelt or settings.contract == "openai" or settings.answer_limit != "auto":
            return None
        self.learn_limit(settings, "max_tokens")
        return replace(settings, answer_limit="max_tokens")

    def learn_limit(self, settings: Settings, name: str) -> None:
        """Remember the name under which the endpoint takes the longest answer."""
        with _lock:
            self._limit = name
        if name == "max_tokens":
            to_set = settings.how_to_set("answer_limit", name)
            self.tell(settings, f"does not read max_new_tokens, {name} is sent instead; {to_set}")

    def others(self, settings: Settings, error: EndpointError) -> Generator[Settings]:
        """Other contracts to ask by after a request was refused, each once and none after an
        answer. Close it: other threads wait for what comes of it."""
        names = _worth_trying(settings, error)
        if not names or not self._trial.acquire(timeout=settings.timeout):
            return
        try:
            if self._contract:
                yield _asked_by(settings, self._contract)
                return
            for name in names:
                if name not in self._tried and not self._answers_as:
                    self._tried.add(name)
                    yield _asked_by(settings, name)
        finally:
            self._trial.release()

    def answered(self, settings: Settings, contract: str) -> None:
        """Remember that the endpoint answered in the shape of ``contract``."""
        asked = settings.contract
        with _lock:
            new = settings.auto and asked in self._tried and not self._contract
            self._answers_as = contract or asked
            if new:
                self._contract = asked
        if new:
            key, value = "contract", asked
            if asked == "openai":
                key, value = "endpoint", settings.endpoint
            to_set = settings.how_to_set(key, value)
            self.tell(settings, f"is asked by contract {asked}, which it takes; {to_set}")
        elif contract not in ("", asked):
            self.tell(settings, f"answers as contract {contract} does, and is read so")

    def tell(self, settings: Settings, what: str) -> None:
        """Say once in a process what is done from now on."""
        with _lock:
            if what in self._told:
                return
            self._told.add(what)
        _logger.warning("%s %s", place(settings.endpoint), what)


def dialect_of(settings: Settings) -> Dialect:
    """Return what is known of the endpoint, and of its deployment."""
    with _lock:
        return _dialects.setdefault(_key(settings), Dialect())


def forget(settings: Settings) -> None:
    """Forget what was found out: what was not there yet, or is there anew, may be of another."""
    with _lock:
        _dialects.pop(_key(settings), None)


def _key(settings: Settings) -> tuple[str, str]:
    return settings.endpoint, settings.deployment


def _worth_trying(settings: Settings, error: EndpointError) -> tuple[str, ...]:
    """The contracts that a refusal leaves open: all where it says nothing, one where it is the
    path that is not there."""
    if not settings.auto or settings.contract != "score" or error.refused:
        return ()
    kind = type(error)
    if kind in (NotFoundError, RequestRefusedError) and error.status in _NO_ROUTE:
        return ("openai",)
    bare = kind in (RequestRefusedError, ModelError) and error.status in _BARE
    return ("mlflow", "openai") if bare else ()


def _asked_by(settings: Settings, contract: str) -> Settings:
    if not settings.auto:
        return settings
    if contract != "openai":
        return replace(settings, contract=contract)
    parts = urlsplit(settings.endpoint)
    return replace(settings, contract=contract, endpoint=parts._replace(path=_CHAT).geturl())
