"""Versioned assets of a workspace: data, models, components, environments, code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.azure.fake.kinds import KINDS, Kind
from tests.azure.fake.messages import AzureError, Reply, Request
from tests.azure.fake.router import ARM, Routes
from tests.azure.fake.store import Id, Resource
from tests.azure.fake.workspaces import SAS, WORKSPACE, WS

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

_PATHS = {"data": "dataUri", "models": "modelUri", "codes": "codeUri"}

routes = Routes()


def refuse_asset(azure: FakeAzure, id_: Id, body: dict[str, Any]) -> None:
    """A version points to one path for good."""
    kind = id_.kind.split("/")[2]
    before = azure.store.get(id_.text)
    field = _PATHS.get(kind.lower())
    if before and field and before.properties.get(field) != body["properties"].get(field):
        message = (
            f"A {kind} version with this name and version is already registered with another path."
        )
        raise AzureError(400, "UserError", message)


def complete_asset(azure: FakeAzure, asset: Resource) -> None:
    """Add the container that lists the versions of a name, and say which is the newest."""
    container = Id(asset.id.text.rsplit("/", 2)[0])
    before = azure.store.get(container.text)
    properties: dict[str, Any] = dict(before.properties) if before else {"tags": {}}
    numbers = [int(v) for v in (asset.id.name, properties.get("latestVersion", "0")) if v.isdigit()]
    newest = str(max(numbers, default=0)) if numbers else asset.id.name
    following = str(max(numbers, default=0) + 1)
    properties |= {"latestVersion": newest, "nextVersion": following, "isArchived": False}
    if "dataType" in asset.properties:
        properties["dataType"] = asset.properties["dataType"]
    azure.store.put(container, {"properties": properties})
    asset.properties.setdefault("isArchived", False)
    asset.properties.setdefault("tags", {})
    asset.properties.setdefault("properties", {})


@routes.on("POST", ARM, f"{WS}/{{kind}}/{{name}}/versions/{{version}}/startPendingUpload")
def start_upload(azure: FakeAzure, request: Request, name: str, version: str, **_: str) -> Reply:
    """A container of its own for the upload, with a signature that is good without account keys."""
    workspace = azure.store.need(request.path.rsplit("/", 5)[0])
    account = workspace.properties["storageAccount"]
    container = f"{version}-{name}"[:63]
    azure.storage.container(Id(account).name, container)
    uri = f"https://{Id(account).name}.blob.core.windows.net/{container}"
    reference = {
        "blobUri": uri,
        "storageAccountArmId": account,
        "credential": {"credentialType": "SAS", "sasUri": f"{uri}?{SAS}&skoid=1"},
    }
    upload = (request.body or {}).get("pendingUploadType", "None")
    whole = {"blobReferenceForConsumption": reference, "pendingUploadType": upload}
    return Reply(body=whole | {"pendingUploadId": container})


for _kind in ("data", "codes", "environments", "components"):
    KINDS[f"{WORKSPACE}/{_kind}/versions"] = Kind(refuse=refuse_asset, complete=complete_asset)
