"""A successful reply on its way in: size cap, total deadline, UTF-8, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import requests
import urllib3

from .deadline import Deadline
from .errors import BadPayloadError, CutOffError, EndpointError, TimedOutError
from .settings import place

MAX_REPLY_BYTES = 8 * 1024 * 1024
_PIECE = 64 * 1024


@dataclass(frozen=True)
class Answer:
    """An open 200: read it once, with :meth:`pieces` or :meth:`json`, inside ``transport.post``."""

    url: str
    response: requests.Response
    deadline: Deadline

    @property
    def is_event_stream(self) -> bool:
        """Tell whether the server streams server-sent events."""
        kind = self.response.headers.get("content-type", "")
        return kind.lower().startswith("text/event-stream")

    def pieces(self) -> Iterator[bytes]:
        """The body as it arrives.

        Raises:
            BadPayloadError: more than ``MAX_REPLY_BYTES``, or badly compressed.
            CutOffError: the connection ended before the body did.
            TimedOutError: the deadline passed.
        """
        self._refuse_large(self._announced())
        total = 0
        try:
            while piece := self.response.raw.read1(_PIECE, decode_content=True):
                total += len(piece)
                self._refuse_large(total)
                yield piece
        except urllib3.exceptions.DecodeError:
            raise BadPayloadError(
                "the reply's compression is broken", place(self.url), "see the endpoint's log"
            ) from None
        except (urllib3.exceptions.HTTPError, OSError):
            raise self._broken() from None
        # A socket shut down by the deadline reads like the regular end of a body without a length.
        if self.deadline.passed:
            raise self._broken()

    def json(self) -> Any:
        """The whole body, decoded.

        Raises:
            BadPayloadError: too large, not UTF-8 or not JSON.
            CutOffError, TimedOutError: as :meth:`pieces`.
        """
        body = b"".join(self.pieces())
        try:
            return json.loads(body.decode("utf-8"))
        except UnicodeDecodeError:
            raise BadPayloadError(
                "the reply is not valid UTF-8", place(self.url), "see the endpoint's log"
            ) from None
        except (ValueError, RecursionError):
            raise BadPayloadError(
                "the reply is not JSON",
                place(self.url),
                "check that 'endpoint' is the scoring URL, path included, not a web page's",
            ) from None

    def _announced(self) -> int:
        length = self.response.headers.get("content-length", "")
        return int(length) if length.isascii() and length.isdigit() and len(length) < 16 else 0

    def _refuse_large(self, size: int) -> None:
        if size > MAX_REPLY_BYTES:
            raise BadPayloadError(
                f"the reply is larger than {MAX_REPLY_BYTES // 1024**2} MiB",
                place(self.url),
                "check that 'endpoint' is the scoring URL, and lower max_new_tokens",
            )

    def _broken(self) -> EndpointError:
        if self.deadline.passed:
            return timed_out(self.url, self.deadline)
        return CutOffError(
            "the connection ended in the middle of the reply",
            place(self.url),
            "ask again; if it stays, see the endpoint's log for a restart",
        )


def timed_out(url: str, deadline: Deadline) -> TimedOutError:
    """The error for a deadline that passed while ``url`` was asked."""
    return TimedOutError(
        f"no complete answer within {deadline.seconds:g} s",
        place(url),
        "lower max_new_tokens, or raise the connection's 'timeout' and the endpoint's own",
    )
