"""A client of chat endpoints: one class for every scoring contract.

``Endpoint(Settings.from_connection(connection)).complete(messages)`` is all there is to it. The
package needs requests and nothing of promptflow, and imports itself relatively, so that it works as
``endpoint`` with the flow folder on ``sys.path`` (how promptflow loads a flow) and as
``flows.chat.scoring_client`` from the repository.
"""

from .client import Endpoint, TokenCount
from .contracts import Generation, Message
from .errors import (
    AuthenticationError,
    BadPayloadError,
    ConfigurationError,
    ContentBlockedError,
    CutOffError,
    EmptyReplyError,
    EndpointError,
    EngineError,
    InputError,
    ModelError,
    NoOutputError,
    NotFoundError,
    PayloadTooLargeError,
    QuestionTooLargeError,
    ReasoningError,
    ReplyError,
    RequestRefusedError,
    ThrottledError,
    TimedOutError,
    ToolCallError,
    UnavailableError,
)
from .reply import Reply
from .settings import Settings

__all__ = [
    "AuthenticationError",
    "BadPayloadError",
    "ConfigurationError",
    "ContentBlockedError",
    "CutOffError",
    "EmptyReplyError",
    "Endpoint",
    "EndpointError",
    "EngineError",
    "Generation",
    "InputError",
    "Message",
    "ModelError",
    "NoOutputError",
    "NotFoundError",
    "PayloadTooLargeError",
    "QuestionTooLargeError",
    "ReasoningError",
    "Reply",
    "ReplyError",
    "RequestRefusedError",
    "Settings",
    "ThrottledError",
    "TimedOutError",
    "TokenCount",
    "ToolCallError",
    "UnavailableError",
]
