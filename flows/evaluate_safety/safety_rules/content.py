"""A client of Azure AI Content Safety: the severities that it finds in an answer.

promptflow-tools has one, which waits forever and prints every answer, and whose tool says Accept or
Reject without a severity.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

# Of one request, in Unicode code points: a limit of the service.
LONGEST_TEXT = 10_000


class NoVerdictError(ValueError):
    """The service gave no verdict; one line for the user, which never holds the key."""


@dataclass(frozen=True)
class ContentSafety:
    """The service; ``timeout`` is in seconds until it must answer, and between two bytes."""

    endpoint: str
    key: str = field(repr=False)
    api_version: str
    timeout: float

    def severities(self, answer: str) -> dict[str, int]:
        """The highest severity by category; pieces of 10 000 characters are looked at one by one.

        Raises:
            NoVerdictError: The service could not be reached or gave no severities.
        """
        highest: dict[str, int] = {}
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
                piece = self._ask(session, answer[start : start + LONGEST_TEXT])
                highest |= {name: max(n, highest.get(name, 0)) for name, n in piece.items()}
        return highest

    def _ask(self, session: requests.Session, text: str) -> dict[str, int]:
        """https://learn.microsoft.com/rest/api/contentsafety/text-operations/analyze-text."""
        try:
            reply = session.post(
                f"{self.endpoint}/contentsafety/text:analyze?api-version={self.api_version}",
                headers={"Ocp-Apim-Subscription-Key": self.key},
                json={"text": text, "blocklistNames": []},
                timeout=self.timeout,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            what = f"no answer ({type(error).__name__})"
            raise self._error(what, "check the connection's endpoint") from None
        if reply.status_code != 200:
            what = f"HTTP {reply.status_code}: {reply.text[:200]}"
            raise self._error(what, "check the connection, or resume the run later")
        try:
            analysis = reply.json()["categoriesAnalysis"]
            return {entry["category"]: int(entry["severity"]) for entry in analysis}
        except (ValueError, KeyError, TypeError):
            what = f"no severities in {reply.text[:200]}"
            fix = "set the connection's api_version to 2023-10-01 or later"
            raise self._error(what, fix) from None

    def _error(self, what: str, fix: str) -> NoVerdictError:
        line = f"Content Safety at {self.endpoint}: {what}. Fix: {fix}"
        return NoVerdictError(" ".join(line.split()))
