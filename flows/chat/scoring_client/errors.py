"""Every way a chat turn can fail, as one tree; catch a branch or the root.

::

    EndpointError
    ├── ConfigurationError        a connection key is missing, malformed or still a placeholder
    ├── InputError                the question, the history or a generation setting is not usable
    │   └── QuestionTooLargeError the question alone does not fit the model's context window
    ├── AuthenticationError       401, 403
    ├── NotFoundError             404
    ├── RequestRefusedError       every other 4xx, and redirects, which are never followed
    │   └── PayloadTooLargeError  413
    ├── TimedOutError             408, or the connection's own timeout
    ├── ThrottledError            429, retries used up or asked to wait too long
    ├── UnavailableError          502, 503, 504, refused or dropped connection, retries used up
    ├── ContentBlockedError       content safety blocked the question or the answer
    ├── EngineError               the engine reports a failure: 500, or an error inside a 200
    │   ├── ModelError            424: the model's own code raised
    │   └── NoOutputError         200 with {}: the scoring script raised, or its input was blocked
    └── ReplyError                a 200 whose body is no answer
        ├── BadPayloadError       not JSON, not UTF-8, an unknown shape, or too large
        ├── EmptyReplyError       an answer without a single visible character
        │   └── ReasoningError    the model thought until its tokens ended, and answered nothing
        ├── ToolCallError         the model calls a tool instead of answering
        └── CutOffError           the body or the stream ended before the answer did

Status codes are those of Azure ML managed endpoints:
https://learn.microsoft.com/azure/machine-learning/how-to-troubleshoot-online-endpoints
"""

from __future__ import annotations


class EndpointError(Exception):
    """One line: ``what`` happened, without a full stop, ``where``, and the ``fix`` that helps.

    ``where`` is host and path, or the flow input; never a query or a secret. ``status`` is the HTTP
    status where it is one, ``refused`` the part of the request that the endpoint does not take.
    """

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        """All three stay in ``args``, so that the error survives pickling between processes."""
        super().__init__(what, where, fix)
        self.what, self.where, self.fix = what, where, fix
        self.status = 0
        self.refused = ""

    def __str__(self) -> str:
        """The line to show."""
        line = f"{self.what} ({self.where})" if self.where else self.what
        return one_line(f"{line}. Fix: {self.fix}" if self.fix else line)

    def at(self, where: str) -> None:
        """Say where it happened, unless it is said."""
        self.where = self.where or where
        self.args = (self.what, self.where, self.fix)


class ConfigurationError(EndpointError):
    """A connection key is missing, malformed or still a placeholder."""


class InputError(EndpointError):
    """The question, the history or a generation setting is not usable."""


class QuestionTooLargeError(InputError):
    """The question alone does not fit the model's context window."""


class AuthenticationError(EndpointError):
    """401 or 403."""


class NotFoundError(EndpointError):
    """404: no such route or deployment."""


class RequestRefusedError(EndpointError):
    """A 4xx without a class of its own, or a redirect."""


class PayloadTooLargeError(RequestRefusedError):
    """413."""


class TimedOutError(EndpointError):
    """408, or no whole answer within the connection's timeout."""


class ThrottledError(EndpointError):
    """429 after the last retry."""


class UnavailableError(EndpointError):
    """502, 503, 504 or no connection, after the last retry."""


class ContentBlockedError(EndpointError):
    """Content safety blocked the question or the answer."""


class EngineError(EndpointError):
    """The engine reports a failure of its own."""


class ModelError(EngineError):
    """424: the model's own code raised."""


class NoOutputError(EngineError):
    """200 with ``{}``."""


class ReplyError(EndpointError):
    """A 200 whose body is no answer."""


class BadPayloadError(ReplyError):
    """Not JSON, not UTF-8, an unknown shape, or too large."""


class EmptyReplyError(ReplyError):
    """An answer without a single visible character."""


class ReasoningError(EmptyReplyError):
    """Thinking and no answer."""


class ToolCallError(ReplyError):
    """A tool call instead of an answer."""


class CutOffError(ReplyError):
    """The body or the stream ended before the answer did."""


def one_line(text: str, limit: int = 0) -> str:
    """``text`` on one line without control characters, cut to ``limit`` characters when given."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if not limit or len(line) <= limit else line[: limit - 1] + "…"
