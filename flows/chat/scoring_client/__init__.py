"""A client of chat endpoints: one class for every scoring contract.

``Endpoint(Settings.from_connection(connection)).complete(messages)`` is all there is to it; of the
errors these are what callers tell apart, ``errors.py`` draws them all. The package needs requests
and nothing of promptflow, and imports itself relatively: as ``scoring_client`` with the flow folder
on ``sys.path`` (how promptflow loads a flow), as ``flows.chat.scoring_client`` from the repository.
"""

from .client import Endpoint, TokenCount
from .contracts import Generation, Message
from .errors import (
    ConfigurationError,
    EndpointError,
    EngineError,
    NotFoundError,
    ReplyError,
    RequestRefusedError,
    ThrottledError,
    TimedOutError,
    UnavailableError,
)
from .settings import Settings

__all__ = [
    "ConfigurationError",
    "Endpoint",
    "EndpointError",
    "EngineError",
    "Generation",
    "Message",
    "NotFoundError",
    "ReplyError",
    "RequestRefusedError",
    "Settings",
    "ThrottledError",
    "TimedOutError",
    "TokenCount",
    "UnavailableError",
]
