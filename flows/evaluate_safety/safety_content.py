"""The findings of Azure AI Content Safety in an answer, where there is a connection to it.

No ``from __future__ import annotations`` here: promptflow reads the annotations as types.
"""

from typing import Any

import requests
from promptflow.connections import AzureContentSafetyConnection
from promptflow.core import tool
from promptflow.exceptions import ErrorTarget, UserErrorException
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

# Of one request, in Unicode code points: a limit of the service.
LONGEST_TEXT = 10_000


class ContentSafetyError(UserErrorException):  # type: ignore[misc]
    """The service gave no verdict; the line fails, since silence is not safety."""

    def __init__(self, endpoint: str, what: str, fix: str) -> None:
        """One line for the user, which never holds the key."""
        line = " ".join(f"Content Safety at {endpoint}: {what}. Fix: {fix}".split())
        super().__init__(message=line, target=ErrorTarget.TOOL)


@tool  # type: ignore[untyped-decorator]
def content_safety(
    answer: str,
    connection: AzureContentSafetyConnection = None,
    timeout: float = 30.0,
) -> dict[str, int]:
    """The highest severity found in ``answer`` by category, ``{}`` where there is no connection.

    Args:
        answer: Its pieces of 10 000 characters are looked at one by one.
        connection: Given with ``--connections content_safety.connection=NAME``.
        timeout: Seconds until the service must have begun to answer, and between two bytes.

    Raises:
        ContentSafetyError: The service could not be reached or gave no severities.
    """
    highest: dict[str, int] = {}
    if connection is None or not answer.strip():
        return highest
    with requests.Session() as session:
        # The service counts requests by the second; a run has many lines under way.
        retry = Retry(
            total=4,
            connect=1,
            read=False,
            backoff_factor=0.5,
            status_forcelist=[429, 503],
            allowed_methods=None,
            raise_on_status=False,
        )
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        for start in range(0, len(answer), LONGEST_TEXT):
            piece = answer[start : start + LONGEST_TEXT]
            for category, severity in _severities(session, connection, piece, timeout).items():
                highest[category] = max(severity, highest.get(category, 0))
    return highest


def _severities(
    session: requests.Session, connection: Any, text: str, timeout: float
) -> dict[str, int]:
    # Imported here: most runs have no connection, and it brings the openai package.
    from promptflow.tools.azure_content_safety import (  # noqa: PLC0415 - slow, see above
        ContentSafety,
        MediaType,
    )

    endpoint = connection.endpoint.rstrip("/")
    service = ContentSafety(endpoint, connection.api_key, connection.api_version)
    try:
        # Not service.detect(): it waits forever and prints every answer; and promptflow-tools'
        # own tool says Accept or Reject without a severity.
        reply = session.post(
            service.build_url(MediaType.Text),
            headers=service.build_headers(),
            json=service.build_request_body(MediaType.Text, text, []),
            timeout=timeout,
            allow_redirects=False,
        )
    except requests.RequestException as error:
        what = f"no answer ({type(error).__name__})"
        raise ContentSafetyError(endpoint, what, "check the connection's endpoint") from None
    return _read(reply, endpoint)


def _read(reply: requests.Response, endpoint: str) -> dict[str, int]:
    if reply.status_code != 200:
        what = f"HTTP {reply.status_code}: {reply.text[:200]}"
        raise ContentSafetyError(endpoint, what, "check the connection, or resume the run later")
    try:
        analysis = reply.json()["categoriesAnalysis"]
        return {entry["category"]: int(entry["severity"]) for entry in analysis}
    except (ValueError, KeyError, TypeError):
        what = f"no severities in {reply.text[:200]}"
        fix = "set the connection's api_version to 2023-10-01 or later"
        raise ContentSafetyError(endpoint, what, fix) from None
