"""Blobs: the calls that the SDKs make to upload, look, list, download and delete."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from tests.azure.fake.blob_lists import block_list, listing
from tests.azure.fake.messages import AzureError, Reply, Request
from tests.azure.fake.router import Routes
from tests.azure.fake.storage import BLOB, DATE, Blob, account_of, download, new_etag

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

_CONTAINER = {
    "etag": '"0x8DE000000000000"',
    "last-modified": DATE,
}
_DESCRIBED = {
    "x-ms-has-immutability-policy": "false",
    "x-ms-has-legal-hold": "false",
    "x-ms-lease-state": "available",
    "x-ms-lease-status": "unlocked",
}
_WRITTEN = {"x-ms-request-server-encrypted": "true"}

routes = Routes()


def _container(azure: FakeAzure, request: Request, name: str) -> dict[str, Blob]:
    account = account_of(azure, request).id.name
    if not azure.storage.exists(account, name):
        raise AzureError(404, "ContainerNotFound", "The specified container does not exist.")
    return azure.storage.container(account, name)


def _waiting(azure: FakeAzure, request: Request, name: str) -> dict[str, dict[str, bytes]]:
    return azure.storage.waiting(account_of(azure, request).id.name, name)


@routes.on("PUT", BLOB, "/{container}")
def make_container(azure: FakeAzure, request: Request, container: str) -> Reply:
    account = account_of(azure, request).id.name
    if azure.storage.exists(account, container):
        raise AzureError(409, "ContainerAlreadyExists", "The specified container already exists.")
    azure.storage.container(account, container)
    return Reply(201, headers=dict(_CONTAINER))


@routes.on("GET|HEAD|DELETE", BLOB, "/{container}")
def container(azure: FakeAzure, request: Request, container: str) -> Reply:
    blobs = _container(azure, request, container)
    if request.method == "DELETE":
        azure.storage.remove(account_of(azure, request).id.name, container)
        return Reply(202)
    if request.query.get("comp") == "list":
        return Reply(200, listing(request, container, blobs))
    return Reply(200, headers=_CONTAINER | _DESCRIBED)


@routes.on("PUT", BLOB, "/{container}/{name...}")
def put_blob(azure: FakeAzure, request: Request, container: str, name: str) -> Reply:
    blobs = _container(azure, request, container)
    waiting = _waiting(azure, request, container)
    _check_md5(request.headers.get("content-md5"), request.raw)
    what = request.query.get("comp", "")
    if what == "metadata":
        return _set_metadata(_need(blobs, name), request)
    if what == "block":
        waiting.setdefault(name, {})[request.query["blockid"]] = request.raw
        return Reply(201, headers=dict(_WRITTEN))
    if request.headers.get("if-none-match") == "*" and name in blobs:
        raise AzureError(409, "BlobAlreadyExists", "The specified blob already exists.")
    made = Blob(request.raw, _metadata(request), kind=_sent(request, "content-type"))
    made.md5 = _sent(request, "content-md5")
    if what == "blocklist":
        made.blocks = _blocks(request, blobs.get(name, Blob()), waiting.get(name, {}))
        made.content = b"".join(content for _, content in made.blocks)
    else:
        _check_md5(made.md5, made.content)
        made.md5 = _md5(made.content)
    blobs[name] = made
    waiting.pop(name, None)
    return _written(made, 201, content_md5=_md5(request.raw))


def _set_metadata(blob: Blob, request: Request) -> Reply:
    blob.metadata, blob.etag = _metadata(request), new_etag()
    return _written(blob, 200)


def _written(blob: Blob, status: int, **more: str) -> Reply:
    etag = {"etag": f'"{blob.etag}"', "last-modified": DATE}
    return Reply(
        status, headers=etag | _WRITTEN | {key.replace("_", "-"): more[key] for key in more}
    )


def _metadata(request: Request) -> dict[str, str]:
    """Names keep their case, which matters to nobody but the client."""
    size = len("x-ms-meta-")
    headers = request.headers.items()
    return {key[size:]: value for key, value in headers if key.lower().startswith("x-ms-meta-")}


def _sent(request: Request, what: str) -> str:
    default = "application/octet-stream" if what == "content-type" else ""
    return request.headers.get(f"x-ms-blob-{what}", default)


def _md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


def _check_md5(said: str | None, content: bytes) -> None:
    if said and said != _md5(content):
        message = (
            "The MD5 value specified in the request did not match with the MD5 value calculated "
            "by the server."
        )
        raise AzureError(400, "Md5Mismatch", message)


def _blocks(request: Request, old: Blob, sent: dict[str, bytes]) -> list[tuple[str, bytes]]:
    """The blocks that a list names, in its order."""
    found = []
    places = {"Committed": dict(old.blocks), "Uncommitted": sent, "Latest": dict(old.blocks) | sent}
    for entry in ET.fromstring(request.raw):  # noqa: S314 - a test wrote it
        content = places[entry.tag].get(entry.text or "")
        if content is None:
            message = "The specified block list is invalid."
            raise AzureError(400, "InvalidBlockList", message)
        found.append((entry.text or "", content))
    return found


@routes.on("GET|HEAD|DELETE", BLOB, "/{container}/{name...}")
def blob(azure: FakeAzure, request: Request, container: str, name: str) -> Reply:
    blobs = _container(azure, request, container)
    waiting = _waiting(azure, request, container).get(name, {})
    if request.query.get("comp") == "blocklist":
        found = blobs.get(name) or (None if waiting else _need(blobs, name))
        return Reply(200, block_list(request, found, waiting), _of_list(found))
    found = _need(blobs, name)
    if request.method == "DELETE":
        del blobs[name]
        return Reply(202, headers={"x-ms-delete-type-permanent": "true"})
    return download(request, found, _headers(found, request))


def _of_list(blob: Blob | None) -> dict[str, str]:
    if not blob:
        return {}
    size = str(len(blob.content))
    return {"etag": f'"{blob.etag}"', "last-modified": DATE, "x-ms-blob-content-length": size}


def _headers(blob: Blob, request: Request) -> dict[str, str]:
    """What is said of a blob, more of it where only that is asked for."""
    found = blob.headers() | {"x-ms-blob-type": "BlockBlob", "x-ms-creation-time": DATE}
    if request.method == "HEAD":
        found |= {"x-ms-access-tier": "Hot", "x-ms-access-tier-inferred": "true"}
    if blob.md5:
        found |= {"content-md5": blob.md5}
    if blob.md5 and request.method == "GET":
        found |= {"x-ms-blob-content-md5": blob.md5}
    return found


def _need(blobs: dict[str, Blob], name: str) -> Blob:
    if name not in blobs:
        raise AzureError(404, "BlobNotFound", "The specified blob does not exist.")
    return blobs[name]
