"""Workspaces, hubs, projects, their datastores and computes."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from tests.azure.fake.kinds import KINDS, Kind
from tests.azure.fake.messages import AzureError, Reply, Request
from tests.azure.fake.router import ARM, Routes
from tests.azure.fake.store import Id, Resource
from tests.azure.fake.subscription import size_of

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

WORKSPACE = "microsoft.machinelearningservices/workspaces"
WS = (
    "/subscriptions/{sub}/resourceGroups/{group}/providers/"
    "Microsoft.MachineLearningServices/workspaces/{ws}"
)
_STANDS_ON = ("storageAccount", "keyVault", "applicationInsights", "containerRegistry")
_STORES = {
    "workspaceblobstore": ("AzureBlob", "azureml-blobstore-{id}"),
    "workspaceartifactstore": ("AzureBlob", "azureml"),
    "workspacefilestore": ("AzureFile", "azureml-filestore-{id}"),
    "workspaceworkingdirectory": ("AzureFile", "code-391ff5ac-6576-460f-ba4d-7e03433c68b6"),
}
SAS = "sv=2024-11-04&sr=c&sp=racwdl&se=2026-11-23T12%3A00%3A00Z&sig=c2lnbmF0dXJl"

routes = Routes()


def workspace_id(workspace: Resource) -> str:
    """The immutable id of a workspace, a GUID."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, workspace.id.key))


def _refuse(azure: FakeAzure, id_: Id, body: dict[str, Any]) -> None:
    if id_.key in azure.subscription.soft_deleted:
        message = f"Soft-deleted workspace {id_.name} exists. Please purge or recover it."
        raise AzureError(409, "Conflict", message)
    properties = body.get("properties") or {}
    project = body.get("kind", "").lower() == "project"
    for name in _STANDS_ON:
        if properties.get(name) and azure.store.get(properties[name]) is None:
            message = f"Resource {properties[name]} of the workspace's {name} could not be found."
            raise AzureError(400, "ValidationError", message)
    if project:
        hub = azure.store.get(properties.get("hubResourceId") or "")
        if hub is None or hub.body.get("kind", "").lower() != "hub":
            message = f"The hub {properties.get('hubResourceId')} could not be found."
            raise AzureError(400, "ValidationError", message)
    elif not all(properties.get(name) for name in ("storageAccount", "keyVault")):
        raise AzureError(400, "ValidationError", "A workspace needs storageAccount and keyVault.")


def _complete(azure: FakeAzure, workspace: Resource) -> None:
    properties, location = workspace.properties, workspace.body["location"]
    workspace.body.setdefault("kind", "Default")
    if hub_id := properties.get("hubResourceId"):
        hub = azure.store.need(hub_id)
        inherited = {key: hub.properties[key] for key in _STANDS_ON if key in hub.properties}
        properties |= inherited
        _list_members(azure, hub)
    _list_members(azure, workspace)
    properties["workspaceId"] = workspace_id(workspace)
    properties["discoveryUrl"] = f"https://{location}.api.azureml.ms/discovery"
    properties["mlFlowTrackingUri"] = (
        f"azureml://{location}.api.azureml.ms/mlflow/v1.0{workspace.id.text}"
    )
    properties.setdefault("v1LegacyMode", False)
    _add_datastores(azure, workspace)


def _add_datastores(azure: FakeAzure, workspace: Resource) -> None:
    account = Id(workspace.properties["storageAccount"]).name
    by_identity = _auth_mode(azure, workspace).lower() == "identity"
    for name, (kind, place) in _STORES.items():
        id_ = Id(f"{workspace.id.text}/datastores/{name}")
        if azure.store.get(id_.text):
            continue
        container = place.format(id=workspace_id(workspace))
        where = "containerName" if kind == "AzureBlob" else "fileShareName"
        properties = {
            "datastoreType": kind,
            "accountName": account,
            where: container,
            "endpoint": "core.windows.net",
            "protocol": "https",
            "isDefault": name == "workspaceblobstore",
            "credentials": {"credentialsType": "None" if by_identity else "AccountKey"},
            "serviceDataAccessAuthIdentity": "None",
        }
        azure.store.put(id_, {"properties": properties})
        azure.storage.container(account, container)


def _auth_mode(azure: FakeAzure, workspace: Resource) -> str:
    """How the datastores sign in: what the workspace says, a project's hub else."""
    hub = azure.store.get(workspace.properties.get("hubResourceId") or "")
    inherited = hub.properties.get("systemDatastoresAuthMode", "") if hub else ""
    return str(workspace.properties.get("systemDatastoresAuthMode", inherited))


def _keep(azure: FakeAzure, workspace: Resource) -> None:
    members = workspace.properties.get("associatedWorkspaces")
    if members:
        message = f"The hub has projects that must be deleted first: {', '.join(members)}"
        raise AzureError(409, "Conflict", message)


def _gone(azure: FakeAzure, workspace: Resource) -> None:
    hub = azure.store.get(workspace.properties.get("hubResourceId") or "")
    if hub:
        _list_members(azure, hub)


def _list_members(azure: FakeAzure, hub: Resource) -> None:
    """Let a hub name its projects, whichever of them was written last."""
    if hub.body.get("kind", "").lower() != "hub":
        return
    hub.properties["associatedWorkspaces"] = [
        one.id.text
        for one in azure.store
        if one.kind == WORKSPACE and one.properties.get("hubResourceId", "").lower() == hub.id.key
    ]


@routes.on("DELETE", ARM, WS)
def delete_workspace(azure: FakeAzure, request: Request, **_: str) -> Reply:
    """Without ``forceToPurge`` the workspace is only soft-deleted, and its name stays taken."""
    from tests.azure.fake import arm

    workspace = azure.store.get(request.path)
    reply = arm.delete(azure, request, "")
    if workspace and request.query.get("forceToPurge", "").lower() != "true":
        azure.subscription.soft_deleted[workspace.id.key] = workspace.body
    return reply


@routes.on("GET", ARM, f"{WS}/datastores")
def list_datastores(azure: FakeAzure, request: Request, **_: str) -> Reply:
    azure.store.need(Id(request.path.rstrip("/")).parent)
    found = [store.body for store in azure.store.children(request.path.rstrip("/"))]
    if request.query.get("isDefault", "").lower() == "true":
        found = [body for body in found if body["properties"]["isDefault"]]
    return Reply(body={"value": found})


@routes.on("POST", ARM, f"{WS}/datastores/{{name}}/listSecrets")
def list_datastore_secrets(azure: FakeAzure, request: Request, **_: str) -> Reply:
    datastore = azure.store.need(request.path.rpartition("/")[0])
    workspace = azure.store.need(datastore.id.parent)
    if datastore.properties["credentials"]["credentialsType"] == "None":
        return Reply(body={"secretsType": "None"})
    account = azure.store.need(workspace.properties["storageAccount"])
    if (request.body or {}).get("expirableSecret"):
        return Reply(body={"secretsType": "Sas", "sasToken": SAS})
    return Reply(body={"secretsType": "AccountKey", "key": account.hidden["key"]})


def refuse_build(azure: FakeAzure, workspace: str, environment: str) -> None:
    """Refuse an image that nothing builds: no task of the registry, and no cluster is named.

    A model of MLflow, without an environment of ours, has an image built as well.

    Raises:
        AzureError: 400 TasksOperationsNotAllowed, as the registry words it.
    """
    if azure.subscription.tasks:
        return
    builder = azure.store.need(workspace).properties.get("imageBuildCompute")
    if builder:
        azure.store.need(f"{workspace}/computes/{builder}")
        return
    message = (
        "image build failed: ACR Tasks requests for the registry are not permitted "
        f"(TasksOperationsNotAllowed): {Id(environment).name or 'of the model'}"
    )
    raise AzureError(400, "TasksOperationsNotAllowed", message)


def _refuse_compute(azure: FakeAzure, id_: Id, body: dict[str, Any]) -> None:
    inner = (body.get("properties") or {}).get("properties") or {}
    if inner.get("vmSize"):
        size_of(inner["vmSize"])


def _complete_compute(azure: FakeAzure, compute: Resource) -> None:
    inner = compute.properties.setdefault("properties", {})
    inner |= {
        "allocationState": "Steady",
        "currentNodeCount": 0,
        "targetNodeCount": 0,
        "nodeStateCounts": dict.fromkeys(("idleNodeCount", "runningNodeCount"), 0),
    }
    compute.properties.update(isAttachedCompute=False, disableLocalAuth=True)


KINDS |= {
    WORKSPACE: Kind(
        slow=True, slow_delete=True, refuse=_refuse, complete=_complete, keep=_keep, gone=_gone
    ),
    f"{WORKSPACE}/computes": Kind(
        slow=True, slow_delete=True, refuse=_refuse_compute, complete=_complete_compute
    ),
}
