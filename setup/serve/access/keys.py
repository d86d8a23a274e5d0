"""The keys of an endpoint: two that clients may send, one that manages; and how often each asks.

Two, so that they can be made anew without a moment in which nobody gets an answer: what was sent
before is still taken while clients are given the new one.
"""

from __future__ import annotations

import hmac
import math
import secrets
import time
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from setup.common.paths import read_json, write_private
from setup.serve.contract.error_reply import ApiError
from setup.serve.settings import KEYS

if TYPE_CHECKING:  # command lines know keys too, and answer no HTTP
    from aiohttp import web

_MINUTE = 60.0  # seconds


class KeyType(StrEnum):
    """A scoring key, by the name that Azure has for it."""

    primary = "primary"
    secondary = "secondary"


class Keys(BaseModel):
    """``scoring`` (the primary one) and ``secondary`` are what clients send.

    ``management`` adds and removes deployments.
    """

    scoring: str = Field(repr=False)
    secondary: str = Field(default="", repr=False)
    management: str = Field(repr=False)

    @classmethod
    def ensure(cls, folder: Path) -> Keys:
        """The keys of the endpoint in ``folder``, made on first use and kept over restarts."""
        content = read_json(folder / KEYS)
        if content is None:
            content = {name: _new() for name in cls.model_fields}
            write_private(folder / KEYS, content)
        return cls.model_validate(content)

    def renewed(self, kind: KeyType | None) -> Keys:
        """These keys with a new one of ``kind``.

        None is for a new primary one, with the primary one of now as the secondary one.
        """
        if kind == KeyType.secondary:
            return self.model_copy(update={"secondary": _new()})
        kept = {} if kind else {"secondary": self.scoring}
        return self.model_copy(update={"scoring": _new(), **kept})

    def save(self, folder: Path) -> None:
        """Write them atomically, for their owner alone."""
        write_private(folder / KEYS, self.model_dump())

    def scoring_key(self, sent: bytes) -> str | None:
        """The one that was ``sent``, compared in constant time; None for a stranger's."""
        primary = hmac.compare_digest(sent, self.scoring.encode())
        secondary = hmac.compare_digest(sent, self.secondary.encode()) and bool(self.secondary)
        return self.scoring if primary else self.secondary if secondary else None

    def hidden(self, text: str) -> str:
        """``text`` without any of them."""
        for key in self.model_dump().values():
            text = text.replace(key, "***") if key else text
        return text


def _new() -> str:
    return secrets.token_urlsafe(32)


class Allowance:
    """So many requests a minute, 0 for any number; each scoring key has one."""

    def __init__(self, per_minute: int, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._times = now, deque[float](maxlen=per_minute or 1)
        self.per_minute = per_minute

    def take(self) -> None:
        """Count a request; ApiError 429 where there were as many within the last minute."""
        if not self.per_minute:
            return
        now = self._now()
        if len(self._times) == self.per_minute and (left := self._times[0] + _MINUTE - now) > 0:
            message = f"this key has asked {self.per_minute} times within a minute, its limit"
            raise ApiError(
                429, message, code="key_rate_limit_exceeded", retry_after=math.ceil(left)
            )
        self._times.append(now)


def sent_key(request: web.Request, kind: str) -> bytes:
    """The key of a request; ApiError 401 where there is none."""
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    sent = credentials.strip().encode("utf-8", "surrogateescape")
    if scheme.lower() != "bearer" or not sent:
        message = f"no key: send the {kind} key as `Authorization: Bearer KEY`"
        raise ApiError(401, message, code="missing_api_key")
    return sent


def check(request: web.Request, keys: Keys, kind: str) -> str | None:
    """The scoring key that was sent, None for the management key; ApiError 401 for another one."""
    sent = sent_key(request, kind)
    if kind == "management":
        if not hmac.compare_digest(sent, keys.management.encode()):
            raise ApiError(401, f"wrong key: it is not the {kind} key of this endpoint")
        return None
    known = keys.scoring_key(sent)
    if known is None:
        raise ApiError(401, f"wrong key: it is not a {kind} key of this endpoint")
    return known


def kind_of(content: Any) -> KeyType | None:
    """The kind that a request to renew names; ApiError 400 for a word that is none."""
    if content in (None, ""):
        return None
    if content not in list(KeyType):
        raise ApiError(400, f"a key is {' or '.join(KeyType)}, not {content!r}")
    return KeyType(content)
