"""What blobs and file shares have in common: accounts, who may use them, refusals, downloads.

Held against Microsoft's emulator, where there is one: tests/azure/fake/test_azurite.py.
"""

from __future__ import annotations

import itertools
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from tests.azure.fake.messages import AzureError, Reply, Request
from tests.azure.fake.store import Resource
from tests.azure.fake.supporting import ASSIGNMENT, ROLES, STORAGE

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

BLOB, FILE = "*.blob.core.windows.net", "*.file.core.windows.net"
DATE = "Sun, 22 Nov 2026 12:00:00 GMT"
_WRITERS = {
    "blob": ("Storage Blob Data Contributor",),
    "file": ("Storage File Data Privileged Contributor",),
}
_READERS = {"blob": ("Storage Blob Data Reader",), "file": ()}
_ETAGS = itertools.count(0x8DE2A1B2C3D4E50)


def new_etag() -> str:
    """What no other content has, without its quotes."""
    return f"0x{next(_ETAGS):X}"


@dataclass
class Blob:
    """A blob or a file: its bytes, what is known of it, and the blocks it was made of, by id."""

    content: bytes = b""
    metadata: dict[str, str] = field(default_factory=dict)
    blocks: list[tuple[str, bytes]] = field(default_factory=list)
    kind: str = "application/octet-stream"
    md5: str = ""
    etag: str = field(default_factory=new_etag)

    def headers(self) -> dict[str, str]:
        """What the services of blobs and of files say of it."""
        found = {f"x-ms-meta-{key}": value for key, value in self.metadata.items()}
        return found | {
            "etag": f'"{self.etag}"',
            "last-modified": DATE,
            "content-type": self.kind,
            "x-ms-lease-state": "available",
            "x-ms-lease-status": "unlocked",
            "x-ms-server-encrypted": "true",
        }


class Storage:
    """Containers and shares by ``ACCOUNT/NAME``, each with its blobs by path."""

    def __init__(self) -> None:
        self._containers: dict[str, dict[str, Blob]] = {}
        self._waiting: dict[str, dict[str, dict[str, bytes]]] = {}

    def container(self, account: str, name: str) -> dict[str, Blob]:
        """The blobs of a container or share; made if it is not there."""
        return self._containers.setdefault(f"{account}/{name}", {})

    def waiting(self, account: str, name: str) -> dict[str, dict[str, bytes]]:
        """The blocks that were sent to a container and are not committed: by path, then by id."""
        return self._waiting.setdefault(f"{account}/{name}", {})

    def exists(self, account: str, name: str) -> bool:
        """Whether there is such a container or share."""
        return f"{account}/{name}" in self._containers

    def remove(self, account: str, name: str) -> None:
        """Forget a container or share."""
        self._containers.pop(f"{account}/{name}", None)
        self._waiting.pop(f"{account}/{name}", None)

    def drop(self, account: str) -> None:
        """Forget an account."""
        for key in [key for key in self._containers if key.startswith(f"{account}/")]:
            self.remove(*key.split("/", 1))


def account_of(azure: FakeAzure, request: Request) -> Resource:
    """The storage account of a request, which may do this to it.

    Raises:
        AzureError: 403, by key where keys are off, or without a role for data; 404.
    """
    name, service = request.host.split(".")[:2]
    account = next(
        (one for one in azure.store if one.kind == STORAGE and one.id.name == name), None
    )
    if account is None:
        raise AzureError(404, "ResourceNotFound", f"there is no storage account {name}")
    closed = account.properties.get("publicNetworkAccess") == "Disabled"
    if closed and not azure.inside_network:
        message = "This request is not authorized to perform this operation."
        raise AzureError(403, "AuthorizationFailure", message)
    delegated = "skoid" in request.query  # signed with a user's key, not the account's
    by_key = ("sig" in request.query and not delegated) or request.headers.get(
        "authorization", ""
    ).startswith("Shared")
    if by_key and account.properties.get("allowSharedKeyAccess") is False:
        message = "Key based authentication is not permitted on this storage account."
        raise AzureError(403, "KeyBasedAuthenticationNotPermitted", message)
    reads = request.method in ("GET", "HEAD")
    roles = _WRITERS[service] + (_READERS[service] if reads else ())
    if (
        not by_key
        and not delegated
        and not has_role(azure, azure.login.principal, account.id.text, roles)
    ):
        message = "This request is not authorized to perform this operation using this permission."
        raise AzureError(403, "AuthorizationPermissionMismatch", message)
    return account


def has_role(azure: FakeAzure, principal: str, scope: str, roles: tuple[str, ...]) -> bool:
    """Whether a principal has one of the roles at the scope or above it."""
    wanted = {ROLES[role] for role in roles}
    return any(
        one.properties["roleDefinitionId"].rpartition("/")[2] in wanted
        and f"{scope.lower()}/".startswith(f"{one.id.scope.lower()}/")
        for one in azure.store
        if one.kind == ASSIGNMENT and one.properties["principalId"] == principal
    )


def is_storage(host: str) -> bool:
    """Whether a host is one of blobs or of file shares."""
    return host.endswith((BLOB[1:], FILE[1:]))


def refusal(request: Request, error: AzureError) -> Reply:
    """A refusal as storage writes it: XML, and in words beside the status."""
    ids = f"RequestId:{uuid.uuid4()}\nTime:{datetime.now(UTC).isoformat()}"
    what = f"<Code>{error.code}</Code><Message>{escape(error.message)}\n{ids}</Message>"
    text = f'<?xml version="1.0" encoding="utf-8"?><Error>{what}</Error>'
    body = None if request.method == "HEAD" else text
    said = error.message.encode("ascii", "replace").decode()  # a status line takes no other
    return Reply(error.status, body, error.reply().headers, said)


def download(request: Request, blob: Blob, headers: dict[str, str]) -> Reply:
    """The content of a blob or a file, or the range of it that is asked for.

    Raises:
        AzureError: 412, it is no longer what the client began to read; 416.
    """
    if request.headers.get("if-match") not in (None, "*", f'"{blob.etag}"'):
        message = "The condition specified using HTTP conditional header(s) is not met."
        raise AzureError(412, "ConditionNotMet", message)
    asked = request.headers.get("x-ms-range") or request.headers.get("range")
    size = len(blob.content)
    headers = headers | {"accept-ranges": "bytes"}
    if request.method == "HEAD":
        return Reply(200, None, headers | {"content-length": str(size)})
    if not asked:
        return Reply(200, blob.content, headers)
    first, _, last = asked.removeprefix("bytes=").partition("-")
    start, end = int(first), min(int(last or size), size - 1)
    if start >= size:
        message = "The range specified is invalid for the current size of the resource."
        raise AzureError(416, "InvalidRange", message, Content_Range=f"bytes */{size}")
    part = {key: value for key, value in headers.items() if key != "content-md5"}
    part |= {"content-range": f"bytes {start}-{end}/{size}"}
    return Reply(206, blob.content[start : end + 1], part)
