"""One story of blob calls, told to the fake and to Azurite: the SDK must see the same.

Not compared are roles, which the emulator has not, and file shares, of which it has none.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.transport import RequestsTransport
from azure.identity import DefaultAzureCredential
from azure.storage.blob import ContainerClient

from tests.azure.azurite import ACCOUNT, INSTALL, KEY, azurite, find_azurite
from tests.azure.blob_story import LIMITS, STORY
from tests.azure.fake import FakeAzure
from tests.azure.fake.ready import add_workspace

_CONTAINER = "story"
# Of one exchange or of the server; lengths are seen in what the client gets; nobody set a tier;
# Azurite's lists forget that blobs made of blocks are encrypted. All else is compared.
_IGNORED = {
    "blob_tier_change_time",
    "client_request_id",
    "connection",
    "content-length",
    "content_crc64",
    "date",
    "keep-alive",
    "request_id",
    "server",
    "server_encrypted",
    "transfer-encoding",
    "version",
    "x-ms-access-tier-change-time",
    "x-ms-client-request-id",
    "x-ms-content-crc64",
    "x-ms-request-id",
    "x-ms-version",
}
_SHOWN = {"content-md5", "last-modified", "x-ms-creation-time"}  # whether, not with what value


class Recorder(RequestsTransport):  # type: ignore[misc]
    """A transport that remembers what was asked and answered."""

    def __init__(self) -> None:
        super().__init__()
        self.exchanges: list[Any] = []

    def send(self, request: Any, **options: Any) -> Any:
        """Ask, and remember; of the headers of a list of blocks the SDK reads none."""
        response: Any = super().send(request, **options)
        url = urlsplit(request.url)
        what = dict(parse_qsl(url.query)).get("comp", "")
        asked = (request.method, url.path.partition(f"/{_CONTAINER}")[2], what)
        headers = {} if what == "blocklist" and request.method == "GET" else response.headers
        self.exchanges.append((asked, response.status_code, dict(headers)))
        return response


class Plain:
    """Values that can be compared: times by their type, etags by the order in which they came."""

    def __init__(self) -> None:
        self._etags: list[str] = []

    def __call__(self, value: Any, key: str = "") -> Any:
        """A result or an exchange, without what differs between any two services."""
        if isinstance(value, HttpResponseError):
            said = value.message.splitlines()[0]
            code = getattr(value, "error_code", None)
            return type(value).__name__, value.status_code, code, said, value.reason
        if hasattr(value, "items"):
            kept = {name: one for name, one in value.items() if name.lower() not in _IGNORED}
            return {name: self(one, name.lower()) for name, one in kept.items()}
        if key in _SHOWN:
            return "shown"
        if key == "etag" and value:
            return self._etag(value)
        if isinstance(value, list | tuple):
            return [self(one) for one in value]
        plain = isinstance(value, str | bytes | bytearray | int | None)
        return value if plain else type(value).__name__

    def _etag(self, value: str) -> str:
        bare = value.strip('"')
        if bare not in self._etags:
            self._etags.append(bare)
        return value.replace(bare, f"etag {self._etags.index(bare)}")


def tell(url: str, credential: Any) -> dict[str, Any]:
    """What the client gets and what goes over the wire, by step."""
    recorder, plain, seen = Recorder(), Plain(), {}
    client = ContainerClient(
        url, _CONTAINER, credential, transport=recorder, retry_total=0, **LIMITS
    )
    for step in STORY:
        recorder.exchanges.clear()
        got = step(client)
        seen[step.__name__] = plain(got), plain(recorder.exchanges)
    return seen


def test_blobs_are_those_of_azurite(azure: FakeAzure) -> None:
    command = find_azurite()
    if not command:
        pytest.skip(f"no Azurite to compare the fake's blobs with; run: {INSTALL}")
    with azurite(command) as url:
        theirs = tell(url, {"account_name": ACCOUNT, "account_key": KEY})
    add_workspace(azure, "ws", "rg")
    ours = tell("https://stws.blob.core.windows.net", DefaultAzureCredential())
    for step, seen in theirs.items():
        assert ours[step] == seen, step
