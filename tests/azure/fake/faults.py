"""Faults on demand: what goes wrong, for which requests, how many times."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.azure.fake.messages import AzureError, DroppedError, Request

# What Azure answers. None has Retry-After: azure-core would retry any status that carries it.
_REFUSALS = {
    "throttled": (429, "TooManyRequests", "The request was throttled."),
    "conflict": (409, "Conflict", "Another operation is in progress on this resource."),
    "forbidden": (
        403,
        "AuthorizationPermissionMismatch",
        "This request is not authorized to perform this operation using this permission.",
    ),
    "network": (
        403,
        "AuthorizationFailure",
        "This request is not authorized to perform this operation.",
    ),
    "unavailable": (503, "ServiceUnavailable", "The service is unavailable."),
    "quota": (
        400,
        "QuotaExceeded",
        "Operation could not be completed as it results in exceeding approved quota.",
    ),
}
HOWS = (*_REFUSALS, "dropped", "lost", "token")


@dataclass
class Fault:
    """``times`` requests whose ``METHOD host/path`` the pattern finds go wrong.

    ``dropped`` cuts the connection before the request is carried out, ``lost`` after it was,
    ``token`` is a 401 for an expired token, the others are refusals.
    """

    pattern: re.Pattern[str]
    times: int
    how: str
    met: int = 0

    def meets(self, request: Request) -> bool:
        """Whether this request goes wrong; counts it."""
        if self.met >= self.times or not self.pattern.search(request.line):
            return False
        self.met += 1
        return True

    def before(self) -> None:
        """Go wrong before the request is carried out.

        Raises:
            AzureError, DroppedError: What the client gets.
        """
        if self.how == "dropped":
            raise DroppedError
        if self.how == "token":
            raise expired_token()
        if self.how in _REFUSALS:
            raise AzureError(*_REFUSALS[self.how])

    def after(self) -> None:
        """Go wrong after the request was carried out."""
        if self.how == "lost":
            raise DroppedError


def expired_token() -> AzureError:
    """The 401 of a token that is no longer good."""
    message = "The access token expiry UTC time is earlier than current UTC time."
    challenge = 'Bearer error="invalid_token", error_description="The access token has expired."'
    return AzureError(401, "ExpiredAuthenticationToken", message, WWW_Authenticate=challenge)
