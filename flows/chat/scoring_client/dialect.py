"""The dialects that endpoints turned out to take, kept for the process: each is found out once.

Fine-tunes of Azure's catalog without vLLM take contract A's request without ``max_tokens`` and
answer as contract B does; MLflow deployments want contract B altogether. A connection whose
settings are ``auto`` meets them with one refused request, which no model has worked on.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace

from .errors import EndpointError, RequestRefusedError
from .settings import Settings, place

_logger = logging.getLogger("flows.chat.scoring_client")
_lock = threading.Lock()
_dialects: dict[tuple[str, str], Dialect] = {}


class Dialect:
    """Of one endpoint; safe to share between threads."""

    def __init__(self) -> None:
        self._limit = ""
        self._contract = ""
        self._tried = False
        self._settled = threading.Event()
        self._told: set[str] = set()

    def apply(self, settings: Settings) -> Settings:
        """``settings`` with what is known in the place of ``auto``."""
        if self._limit and settings.answer_limit == "auto":
            settings = replace(settings, answer_limit=self._limit)
        if self._contract and settings.auto:
            settings = replace(settings, contract=self._contract)
        return settings

    def alternative(self, settings: Settings, error: EndpointError) -> Settings | None:
        """Other settings to ask with after a request was refused; None where there are none."""
        if settings.contract != "score":
            return None
        if error.refused == "max_tokens" and settings.answer_limit == "auto":
            with _lock:
                self._limit = "max_new_tokens"
            to_set = settings.how_to_set("answer_limit", self._limit)
            self.tell(settings, f"does not take max_tokens, which is left out; {to_set}")
            return replace(settings, answer_limit=self._limit)
        # A 400 or 422 that does not say what it refuses: the request as a whole, perhaps.
        refused = error.status in (400, 422) and type(error) is RequestRefusedError
        if not refused or error.refused or not settings.auto:
            return None
        with _lock:
            before, self._tried = self._tried, True
        if not before:  # another contract is tried once, and not after an answer
            return replace(settings, contract="mlflow")
        self._settled.wait(settings.timeout)  # for what another thread is trying, if one is
        return replace(settings, contract=self._contract) if self._contract else None

    def answered(self, settings: Settings) -> None:
        """Remember that the endpoint answered what was asked with ``settings``."""
        if settings.auto and settings.contract == "mlflow" and not self._contract:
            with _lock:
                self._contract = settings.contract
            to_set = settings.how_to_set("contract", settings.contract)
            self.tell(settings, f"is asked by contract mlflow, which it takes; {to_set}")
        self.settle()

    def settle(self) -> None:
        """Keep the contract that is known by now: another was tried in vain, or none need be."""
        with _lock:
            self._tried = True
        self._settled.set()

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
        return _dialects.setdefault((settings.endpoint, settings.deployment), Dialect())
