"""One POST of JSON with a key: pooled connections, bounded retries, a total deadline, a size cap.

:func:`post` hands back an open reply; everything that goes wrong on the way, and while the reply is
read, is one of the errors of ``errors.py``, with the key removed from whatever the server said.
"""

from __future__ import annotations

import contextlib
import email.utils
import functools
import http.cookiejar
import json
import os
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from .deadline import Deadline, WatchedAdapter, watching
from .errors import (
    BadPayloadError,
    CutOffError,
    EndpointError,
    TimedOutError,
    UnavailableError,
)
from .settings import Settings, place
from .status import failure
from .tracing.chat_span import headers as trace_headers

RETRIED = frozenset({429, 502, 503, 504})
ATTEMPTS = 4
_BACKOFF = 0.5  # seconds; the wait before retry n is random in [0, _BACKOFF * 2**n]
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_REPLY_MIB = 8
_PIECE = 64 * 1024
_ERROR_BYTES = 64 * 1024
_ERROR_SECONDS = 2.0


class _KeyAuth(requests.auth.AuthBase):
    """Sets the key itself: with ``auth`` given, requests leaves a ``.netrc`` entry out of it."""

    def __init__(self, settings: Settings) -> None:
        bearer = settings.key_header != "api-key"
        self._header = "Authorization" if bearer else "api-key"
        self._value = f"Bearer {settings.key}" if bearer else settings.key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers[self._header] = self._value
        return request


@dataclass(frozen=True)
class Answer:
    """An open 200: read it once, with :meth:`pieces` or :meth:`json`, inside :func:`post`."""

    response: requests.Response
    deadline: Deadline

    @property
    def is_event_stream(self) -> bool:
        """Tell whether the server streams server-sent events."""
        kind = self.response.headers.get("content-type", "")
        return kind.lower().startswith("text/event-stream")

    def pieces(self) -> Iterator[bytes]:
        """The body as it arrives, of at most ``_REPLY_MIB``."""
        length = self.response.headers.get("content-length", "")
        announced = length.isascii() and length.isdigit() and len(length) < 16
        _refuse_large(int(length) if announced else 0)
        total = 0
        try:
            while piece := self.response.raw.read1(_PIECE, decode_content=True):
                total += len(piece)
                _refuse_large(total)
                yield piece
        except urllib3.exceptions.DecodeError:
            what = "the reply's compression is broken"
            raise BadPayloadError(what, fix="see the endpoint's log") from None
        except (urllib3.exceptions.HTTPError, OSError):
            if self.deadline.passed:
                raise _timed_out(self.deadline) from None
            raise CutOffError(
                "the connection ended in the middle of the reply",
                fix="ask again; if it stays, see the endpoint's log for a restart",
            ) from None
        # A socket shut down by the deadline reads like the regular end of a body without a length.
        if self.deadline.passed:
            raise _timed_out(self.deadline)

    def json(self) -> Any:
        """The whole body, decoded."""
        body = b"".join(self.pieces())
        try:
            return json.loads(body.decode("utf-8"))
        except UnicodeDecodeError:
            what, fix = "the reply is not valid UTF-8", "see the endpoint's log"
        except (ValueError, RecursionError):
            what = "the reply is not JSON"
            fix = "check that 'endpoint' is the scoring URL, path included, not a web page's"
        raise BadPayloadError(what, fix=fix)


def _refuse_large(size: int) -> None:
    if size > _REPLY_MIB * 1024**2:
        raise BadPayloadError(
            f"the reply is larger than {_REPLY_MIB} MiB",
            fix="check that 'endpoint' is the scoring URL, and lower max_new_tokens",
        )


def _timed_out(deadline: Deadline) -> TimedOutError:
    return TimedOutError(
        f"no complete answer within {deadline.seconds:g} s",
        fix="lower max_new_tokens, or raise the connection's 'timeout' and the endpoint's own",
    )


@contextlib.contextmanager
def post(settings: Settings, url: str, body: Any, seconds: float) -> Iterator[Answer]:
    """POST ``body`` as JSON and hand back the 200, within ``seconds`` for everything.

    429, 502, 503, 504 and failed connections are tried again up to ``ATTEMPTS`` times in all, after
    the wait the server asks for in ``Retry-After``, else after a random and growing one.
    """
    data = json.dumps(body, ensure_ascii=False).encode("utf-8", errors="replace")
    try:
        with contextlib.closing(Deadline(seconds)) as deadline:
            response = _send_until_answered(settings, url, data, deadline)
            with contextlib.closing(response), contextlib.closing(deadline):
                yield Answer(response, deadline)
    except EndpointError as error:
        error.at(place(url))
        raise


def _send_until_answered(
    settings: Settings, url: str, data: bytes, deadline: Deadline
) -> requests.Response:
    for attempt in range(1, ATTEMPTS + 1):
        outcome = _send(settings, url, data, deadline)
        if isinstance(outcome, requests.Response):
            if 200 <= outcome.status_code < 300:
                return outcome
            error = _error_of(outcome, settings, deadline)
            retried = outcome.status_code in RETRIED
            asked = _retry_after(outcome.headers.get("retry-after"))
        else:
            error, retried, asked = outcome, True, None
        if not retried:
            raise error
        if attempt == ATTEMPTS:
            raise type(error)(f"{error.what}; tried {ATTEMPTS} times", fix=error.fix)
        _wait(attempt, asked, error, deadline)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _send(
    settings: Settings, url: str, data: bytes, deadline: Deadline
) -> requests.Response | UnavailableError:
    """One attempt: a response with its body unread, or why there is none."""
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    if settings.deployment:
        headers["azureml-model-deployment"] = settings.deployment
    headers.update(trace_headers())
    left, parts = deadline.remaining, urlsplit(url)
    # None leaves the choice to the environment; loopback is never a proxy's business.
    proxies = {"no_proxy": ",".join(_LOOPBACK)} if parts.hostname in _LOOPBACK else None
    try:
        with watching(deadline):
            return _session(os.getpid(), f"{parts.scheme}://{parts.netloc}").post(
                url,
                data=data,
                headers=headers,
                auth=_KeyAuth(settings),
                timeout=(min(settings.connect_timeout, left), left),
                allow_redirects=False,
                proxies=proxies,
                stream=True,
            )
    except requests.exceptions.ReadTimeout:
        raise _timed_out(deadline) from None
    except requests.exceptions.ConnectTimeout:
        return UnavailableError(
            f"no connection within {min(settings.connect_timeout, left):.3g} s",
            fix="check the host, the network and the connection's 'connect_timeout'",
        )
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        # A slow machine may take all the time there is to find nobody there: that is why, then.
        if deadline.passed and "refused" not in str(error):
            raise _timed_out(deadline) from None
        return _unreachable(error)


def _unreachable(error: Exception) -> UnavailableError:
    """Say why a connection failed; raise it instead where trying again cannot help."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        raise UnavailableError(
            "the TLS certificate is not trusted",
            fix="check the host name, or name the CA's bundle in REQUESTS_CA_BUNDLE",
        ) from None
    if "refused" in str(error):
        fix = "start the endpoint, or correct 'endpoint'"
        return UnavailableError("connection refused", fix=fix)
    return UnavailableError(
        "no connection, or it was dropped before an answer",
        fix="check the host name, the network and that the endpoint runs",
    )


def _error_of(response: requests.Response, settings: Settings, deadline: Deadline) -> EndpointError:
    """The error a status stands for; reads at most a little of its body, for at most a moment."""
    body = b""
    with (
        contextlib.closing(deadline.within(_ERROR_SECONDS)) as rest,
        contextlib.suppress(urllib3.exceptions.HTTPError, OSError),
    ):
        while len(body) < _ERROR_BYTES and not rest.passed:
            if not (piece := response.raw.read1(_ERROR_BYTES, decode_content=True)):
                break
            body += piece
    response.close()
    return failure(response.status_code, response.headers, body, settings)


def _wait(attempt: int, asked: float | None, error: EndpointError, deadline: Deadline) -> None:
    """Sleep before the next attempt, or raise when the deadline comes first."""
    seconds = _BACKOFF * 2**attempt * random.random() if asked is None else asked  # noqa: S311
    if seconds < deadline.remaining:
        # Clients that were all told the same wait must not come back all at once.
        time.sleep(min(seconds * random.uniform(1, 1.2), deadline.remaining))  # noqa: S311
    elif asked is None:
        raise error
    else:
        raise type(error)(
            f"{error.what}; it asks to wait {asked:g} s, longer than what is left of the "
            f"{deadline.seconds:g} s of 'timeout'",
            fix="ask again later, or raise the connection's 'timeout'",
        )


def _retry_after(value: str | None) -> float | None:
    """Seconds of a ``Retry-After`` header, which is a number or a date (RFC 9110, 10.2.3)."""
    if value and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
        return float(value)
    with contextlib.suppress(ValueError, TypeError):  # TypeError before Python 3.10
        return max(0.0, email.utils.parsedate_to_datetime(value or "").timestamp() - time.time())
    return None


@functools.lru_cache(maxsize=8)
def _session(_pid: int, origin: str) -> requests.Session:
    """One pool of connections per process and origin.

    By process because ``pf run`` forks its workers, and two processes on one socket would read each
    other's answers. Sessions are safe between threads as used here: nothing on them changes, no
    cookie is kept.
    """
    session = requests.Session()
    session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    session.mount(f"{origin}/", WatchedAdapter(pool_connections=1, pool_maxsize=64))
    return session
