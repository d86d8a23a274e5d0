"""File shares: folders and files, as the flow client of Prompt flow makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.azure.fake.messages import AzureError, Reply, Request
from tests.azure.fake.router import Routes
from tests.azure.fake.storage import FILE, Blob, account_of, download

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

FOLDER = "folder"  # the metadata that tells a folder from a file
_RANGE_LIMIT = 4 * 1024 * 1024

routes = Routes()


def _share(azure: FakeAzure, request: Request, share: str) -> dict[str, Blob]:
    """The files of a share by path.

    Raises:
        AzureError: 403, not allowed; 400, signed in with Entra ID without saying what for; 404.
    """
    account = account_of(azure, request).id.name
    by_token = request.headers.get("authorization", "").startswith("Bearer")
    if by_token and request.headers.get("x-ms-file-request-intent") != "backup":
        message = "An HTTP header that's mandatory for this request is not specified."
        raise AzureError(400, "MissingRequiredHeader", message)
    if not azure.storage.exists(account, share):
        raise AzureError(404, "ShareNotFound", f"The specified share {share} does not exist.")
    return azure.storage.container(account, share)


def _need_parent(files: dict[str, Blob], path: str) -> None:
    parent = path.rpartition("/")[0]
    if parent and FOLDER not in files.get(parent, Blob()).metadata:
        raise AzureError(404, "ParentNotFound", f"The parent {parent} does not exist.")


@routes.on("PUT", FILE, "/{share}/{path...}")
def put(azure: FakeAzure, request: Request, share: str, path: str) -> Reply:
    files = _share(azure, request, share)
    if request.query.get("restype") == "directory":
        _need_parent(files, path)
        if path in files:
            raise AzureError(409, "ResourceAlreadyExists", "The specified resource already exists.")
        files[path] = Blob(metadata={FOLDER: "yes"})
    elif request.query.get("comp") == "range":
        _write_range(files, request, path)
    else:
        _need_parent(files, path)
        files[path] = Blob(bytes(int(request.headers["x-ms-content-length"])))
    return Reply(201, headers=_headers(files[path]))


def _write_range(files: dict[str, Blob], request: Request, path: str) -> None:
    if path not in files:
        raise AzureError(404, "ResourceNotFound", f"The file {path} does not exist.")
    asked = request.headers.get("x-ms-range") or request.headers["range"]
    first, _, last = asked.removeprefix("bytes=").partition("-")
    size = int(last) + 1 - int(first)
    before = files[path].content
    if size != len(request.raw) or size > _RANGE_LIMIT or int(last) >= len(before):
        raise AzureError(416, "InvalidRange", f"{asked} of a file of {len(before)} bytes")
    files[path].content = before[: int(first)] + request.raw + before[int(last) + 1 :]


@routes.on("GET|HEAD", FILE, "/{share}/{path...}")
def get(azure: FakeAzure, request: Request, share: str, path: str) -> Reply:
    files = _share(azure, request, share)
    wanted = request.query.get("restype") == "directory"
    if path not in files or wanted != (FOLDER in files[path].metadata):
        raise AzureError(404, "ResourceNotFound", f"The specified resource {path} does not exist.")
    if wanted:
        return Reply(200, headers=_headers(files[path]))
    return download(request, files[path], _headers(files[path]))


def _headers(file: Blob) -> dict[str, str]:
    return file.headers() | {"x-ms-type": "File", "x-ms-file-permission-key": "0"}
