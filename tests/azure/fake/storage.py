"""Blobs and file shares: the calls that the SDKs make to upload, list and download."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from tests.azure.fake.messages import AzureError, Reply, Request
from tests.azure.fake.router import Routes
from tests.azure.fake.store import Resource
from tests.azure.fake.supporting import ASSIGNMENT, ROLES, STORAGE

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

BLOB, FILE = "*.blob.core.windows.net", "*.file.core.windows.net"
_DATE = "Sun, 22 Nov 2026 12:00:00 GMT"
_WRITERS = {
    "blob": ("Storage Blob Data Contributor",),
    "file": ("Storage File Data Privileged Contributor",),
}
_READERS = {"blob": ("Storage Blob Data Reader",), "file": ()}

routes = Routes()


@dataclass
class Blob:
    """A blob or a file: its bytes, metadata, and blocks that are not committed yet."""

    content: bytes = b""
    metadata: dict[str, str] = field(default_factory=dict)
    blocks: dict[str, bytes] = field(default_factory=dict)
    kind: str = "application/octet-stream"

    def headers(self) -> dict[str, str]:
        """As the service describes it."""
        found = {f"x-ms-meta-{key}": value for key, value in self.metadata.items()}
        return found | {
            "etag": f'"{hashlib.sha256(self.content).hexdigest()[:16]}"',
            "last-modified": _DATE,
            "content-type": self.kind,
            "x-ms-blob-type": "BlockBlob",
            "x-ms-type": "File",
            "x-ms-file-permission-key": "0",
        }


class Storage:
    """Containers and shares by ``ACCOUNT/NAME``, each with its blobs by path."""

    def __init__(self) -> None:
        self._containers: dict[str, dict[str, Blob]] = {}

    def container(self, account: str, name: str) -> dict[str, Blob]:
        """The blobs of a container or share; made if it is not there."""
        return self._containers.setdefault(f"{account}/{name}", {})

    def exists(self, account: str, name: str) -> bool:
        """Whether there is such a container or share."""
        return f"{account}/{name}" in self._containers

    def drop(self, account: str) -> None:
        """Forget an account."""
        for key in [key for key in self._containers if key.startswith(f"{account}/")]:
            del self._containers[key]


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


def _container(azure: FakeAzure, request: Request, name: str) -> dict[str, Blob]:
    account = account_of(azure, request).id.name
    if not azure.storage.exists(account, name):
        raise AzureError(
            404, "ContainerNotFound", f"The specified container {name} does not exist."
        )
    return azure.storage.container(account, name)


def _metadata(request: Request) -> dict[str, str]:
    prefix = "x-ms-meta-"
    headers = request.headers.items()
    return {key.removeprefix(prefix): value for key, value in headers if key.startswith(prefix)}


@routes.on("PUT|GET|HEAD|DELETE", BLOB, "/{container}")
def container(azure: FakeAzure, request: Request, container: str) -> Reply:
    if request.method == "PUT":
        account = account_of(azure, request).id.name
        if azure.storage.exists(account, container):
            raise AzureError(409, "ContainerAlreadyExists", "The container already exists.")
        azure.storage.container(account, container)
        return Reply(201, headers={"etag": '"1"', "last-modified": _DATE})
    blobs = _container(azure, request, container)
    if request.query.get("comp") != "list":
        return Reply(200, headers={"etag": '"1"', "last-modified": _DATE})
    prefix, by = request.query.get("prefix", ""), request.query.get("delimiter", "")
    names = [name for name in sorted(blobs) if name.startswith(prefix)]
    folders: list[str] = []
    if by:
        rest = [name[len(prefix) :] for name in names]
        folders = sorted({prefix + part.split(by)[0] + by for part in rest if by in part})
        names = [name for name in names if by not in name[len(prefix) :]]
    entries = "".join(_listed(name, blobs[name]) for name in names)
    entries += "".join(f"<BlobPrefix><Name>{escape(f)}</Name></BlobPrefix>" for f in folders)
    whole = f"<EnumerationResults><Blobs>{entries}</Blobs><NextMarker/></EnumerationResults>"
    return Reply(200, f'<?xml version="1.0" encoding="utf-8"?>{whole}')


def _listed(name: str, blob: Blob) -> str:
    metadata = "".join(f"<{key}>{escape(value)}</{key}>" for key, value in blob.metadata.items())
    properties = (
        f"<Last-Modified>{_DATE}</Last-Modified><Etag>1</Etag><BlobType>BlockBlob</BlobType>"
        f"<Content-Length>{len(blob.content)}</Content-Length>"
        f"<Content-Type>{blob.kind}</Content-Type>"
    )
    return (
        f"<Blob><Name>{escape(name)}</Name><Properties>{properties}</Properties>"
        f"<Metadata>{metadata}</Metadata></Blob>"
    )


@routes.on("PUT", BLOB, "/{container}/{name...}")
def put_blob(azure: FakeAzure, request: Request, container: str, name: str) -> Reply:
    blobs = _container(azure, request, container)
    what = request.query.get("comp", "")
    if what == "metadata":
        _need(blobs, name).metadata = _metadata(request)
        return Reply(200, headers=_need(blobs, name).headers())
    if not what and request.headers.get("if-none-match") == "*" and name in blobs:
        raise AzureError(409, "BlobAlreadyExists", "The specified blob already exists.")
    if what == "block":
        blobs.setdefault(name, Blob()).blocks[request.query["blockid"]] = request.raw
        return Reply(201, headers={"x-ms-request-server-encrypted": "true"})
    kind = request.headers.get("x-ms-blob-content-type", "application/octet-stream")
    content = request.raw
    if what == "blocklist":
        ids = [part.split("</Latest>")[0] for part in request.raw.decode().split("<Latest>")[1:]]
        content = b"".join(blobs[name].blocks[id_] for id_ in ids)
    blobs[name] = Blob(content, _metadata(request), kind=kind)
    return Reply(201, headers=blobs[name].headers())


@routes.on("GET|HEAD|DELETE", BLOB, "/{container}/{name...}")
def blob(azure: FakeAzure, request: Request, container: str, name: str) -> Reply:
    blobs = _container(azure, request, container)
    found = _need(blobs, name)
    if request.query.get("comp") == "blocklist":
        return Reply(200, _waiting(found))
    if request.method == "DELETE":
        del blobs[name]
        return Reply(202)
    return download(request, found)


def _waiting(blob: Blob) -> str:
    """The blocks that were sent and not committed."""
    blocks = "".join(
        f"<Block><Name>{escape(name)}</Name><Size>{len(content)}</Size></Block>"
        for name, content in blob.blocks.items()
    )
    lists = f"<CommittedBlocks/><UncommittedBlocks>{blocks}</UncommittedBlocks>"
    return f'<?xml version="1.0" encoding="utf-8"?><BlockList>{lists}</BlockList>'


def download(request: Request, blob: Blob) -> Reply:
    """A blob's content, or the range of it that is asked for."""
    asked = request.headers.get("x-ms-range") or request.headers.get("range")
    size = len(blob.content)
    if request.method == "HEAD":
        return Reply(200, None, blob.headers() | {"content-length": str(size)})
    if not asked:
        return Reply(200, blob.content, blob.headers())
    first, _, last = asked.removeprefix("bytes=").partition("-")
    start, end = int(first), min(int(last or size), size - 1)
    if start >= size:
        raise AzureError(416, "InvalidRange", "The range specified is invalid.")
    headers = blob.headers() | {"content-range": f"bytes {start}-{end}/{size}"}
    return Reply(206, blob.content[start : end + 1], headers)


def _need(blobs: dict[str, Blob], name: str) -> Blob:
    if name not in blobs:
        raise AzureError(404, "BlobNotFound", f"The specified blob {name} does not exist.")
    return blobs[name]
