"""Online endpoints and their deployments: keys, traffic, quota, probes, logs."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any

from tests.azure.fake.kinds import KINDS, Kind
from tests.azure.fake.messages import AzureError, Reply, Request
from tests.azure.fake.router import ARM, Routes
from tests.azure.fake.storage import has_role
from tests.azure.fake.store import Id, Resource
from tests.azure.fake.subscription import size_of
from tests.azure.fake.workspaces import WORKSPACE, WS, refuse_build

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

ENDPOINT = f"{WORKSPACE}/onlineendpoints"
DEPLOYMENT = f"{ENDPOINT}/deployments"
_SECONDS = re.compile(r"PT(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?")
_LIMIT = 180  # https://learn.microsoft.com/azure/machine-learning/how-to-manage-quotas

routes = Routes()


def _wrong(message: str) -> AzureError:
    return AzureError(400, "BadArgument", message)


def _refuse_endpoint(azure: FakeAzure, id_: Id, body: dict[str, Any]) -> None:
    if not re.fullmatch("[A-Za-z][A-Za-z0-9-]{1,30}[A-Za-z0-9]", id_.name):
        raise _wrong(f"{id_.name} is no name of an endpoint: 3 to 32 letters, digits and hyphens.")
    for other in azure.store:
        taken = other.kind == ENDPOINT and other.id.name.lower() == id_.name.lower()
        if taken and other.id.key != id_.key:
            raise _wrong(
                f"The specified endpoint name '{id_.name}' is not available. Endpoint names must "
                "be unique within the region."
            )
    for deployment in azure.store.children(f"{id_.text}/deployments"):
        _refuse_while_running(azure, deployment.id)
    traffic = (body.get("properties") or {}).get("traffic") or {}
    if sum(traffic.values()) not in (0, 100):
        raise _wrong(f"The traffic {traffic} does not sum to 0 or 100.")
    mirrors = (body.get("properties") or {}).get("mirrorTraffic") or {}
    if twice := {name for name in mirrors if traffic.get(name)}:
        raise _wrong(f"The deployments {twice} are sent both live and mirrored traffic.")
    for name in traffic:
        named = azure.store.get(f"{id_.text}/deployments/{name}")
        if named is None:
            raise _wrong(f"The traffic names the deployment {name}, which does not exist.")
        if traffic[name] and named.properties["provisioningState"] != "Succeeded":
            raise _wrong(
                f"The deployment {name} is not in Succeeded state, it can take no traffic."
            )
    for identity in (body.get("identity") or {}).get("userAssignedIdentities") or {}:
        azure.store.need(identity)


def _refuse_while_running(azure: FakeAzure, id_: Id) -> None:
    if azure.operations.running(id_.text):
        raise AzureError(409, "Conflict", f"Another operation is in progress on {id_.text}.")


def _complete_endpoint(azure: FakeAzure, endpoint: Resource) -> None:
    host = f"https://{endpoint.id.name.lower()}.{endpoint.body['location']}.inference.ml.azure.com"
    endpoint.properties.setdefault("traffic", {})
    endpoint.properties.update(scoringUri=f"{host}/score", swaggerUri=f"{host}/swagger.json")
    endpoint.properties.pop("keys", None)
    for name in ("primaryKey", "secondaryKey"):
        endpoint.hidden.setdefault(name, uuid.uuid4().hex)


@routes.on("POST", ARM, f"{WS}/onlineEndpoints/{{name}}/listKeys")
def list_keys(azure: FakeAzure, request: Request, **_: str) -> Reply:
    endpoint = azure.store.need(request.path.rpartition("/")[0])
    return Reply(body={key: endpoint.hidden[key] for key in ("primaryKey", "secondaryKey")})


def _seconds(duration: str) -> float:
    found = _SECONDS.fullmatch(duration)
    if not found:
        raise _wrong(f"{duration!r} is no duration.")
    return int(found[1] or 0) * 60 + float(found[2] or 0)


def _refuse_model(azure: FakeAzure, properties: dict[str, Any]) -> None:
    """A model that is not MLflow's brings no server: its environment must say how to ask one."""
    model = azure.store.get(properties.get("model") or "")
    if model and model.properties.get("modelType") == "custom_model":
        environment = azure.store.get(properties.get("environmentId") or "")
        routes_ = environment.properties.get("inferenceConfig") if environment else None
        if not routes_ and not properties.get("codeConfiguration"):
            raise _wrong("There is neither a scoring script nor an inferenceConfig.")


def _refuse_deployment(azure: FakeAzure, id_: Id, body: dict[str, Any]) -> None:
    properties = body["properties"]
    _refuse_while_running(azure, Id(id_.parent))
    before = azure.store.get(id_.text)
    if before and before.properties.get("instanceType") != properties.get("instanceType"):
        raise _wrong("The instanceType of a deployment cannot be changed.")
    _refuse_model(azure, properties)
    refuse_build(azure, Id(Id(id_.parent).parent).text, properties.get("environmentId") or "")
    if not re.fullmatch("[A-Za-z][A-Za-z0-9-]{1,30}[A-Za-z0-9]", id_.name):
        raise _wrong(f"{id_.name} is no name of a deployment.")
    size = size_of(properties.get("instanceType", "Standard_DS3_v2"))
    timeout = (properties.get("requestSettings") or {}).get("requestTimeout", "PT5S")
    if _seconds(timeout) > _LIMIT:
        raise _wrong(f"requestTimeout {timeout} is more than {_LIMIT} seconds.")
    for name in ("model", "environmentId"):
        source = properties.get(name) or ""
        if source.startswith("/"):
            azure.store.need(source)
    azure.subscription.take_cores(id_.text, size, (body.get("sku") or {}).get("capacity", 1))


def _complete_deployment(azure: FakeAzure, deployment: Resource) -> None:
    properties = deployment.properties
    deployment.body.setdefault("sku", {"name": "Default", "capacity": 1})
    properties.setdefault("scaleSettings", {"scaleType": "Default"})
    properties.setdefault("requestSettings", {"requestTimeout": "PT5S"})
    for collection in ((properties.get("dataCollector") or {}).get("collections") or {}).values():
        # azure-ai-ml writes it in lower case, and reads it as the contract has it.
        collection["dataCollectionMode"] = collection["dataCollectionMode"].capitalize()
    deployment.hidden.setdefault("log", "the container is ready\n")
    endpoint = azure.store.need(deployment.id.parent)
    if problem := _lacking_role(azure, endpoint):
        azure.operations.fail(
            re.escape(deployment.id.text) + "$", "ImagePullOrMountFailed", problem, 1
        )


def _lacking_role(azure: FakeAzure, endpoint: Resource) -> str:
    """What an identity of the user's own may not read; the service's own is given its roles."""
    identities = (endpoint.body.get("identity") or {}).get("userAssignedIdentities") or {}
    workspace = azure.store.need(endpoint.id.parent)
    wanted = {
        "storageAccount": ("Storage Blob Data Reader", "Storage Blob Data Contributor"),
        "containerRegistry": ("AcrPull", "Contributor"),
    }
    for identity in identities.values():
        for resource, roles in wanted.items():
            at = workspace.properties.get(resource)
            if at and not has_role(azure, identity["principalId"], at, roles):
                return f"The endpoint's identity has none of the roles {', '.join(roles)} on {at}."
    return ""


def _failed_deployment(azure: FakeAzure, deployment: Resource, error: AzureError) -> None:
    deployment.hidden["log"] = error.log or f"{error.message}\n"


def _keep_deployment(azure: FakeAzure, deployment: Resource) -> None:
    endpoint = azure.store.need(deployment.id.parent)
    if endpoint.properties["traffic"].get(deployment.id.name):
        message = f"The deployment {deployment.id.name} has traffic; set it to 0 first."
        raise _wrong(message)


def _deployment_gone(azure: FakeAzure, deployment: Resource) -> None:
    azure.subscription.used.pop(deployment.id.key, None)
    if endpoint := azure.store.get(deployment.id.parent):
        endpoint.properties["traffic"].pop(deployment.id.name, None)


@routes.on("POST", ARM, f"{WS}/onlineEndpoints/{{name}}/deployments/{{deployment}}/getLogs")
def get_logs(azure: FakeAzure, request: Request, **_: str) -> Reply:
    found = azure.store.need(request.path.rpartition("/")[0])
    lines = found.hidden["log"].splitlines(keepends=True)
    return Reply(body={"content": "".join(lines[-(request.body or {}).get("tail", 500) :])})


KINDS |= {
    ENDPOINT: Kind(
        slow=True, slow_delete=True, refuse=_refuse_endpoint, complete=_complete_endpoint
    ),
    DEPLOYMENT: Kind(
        slow=True,
        slow_delete=True,
        refuse=_refuse_deployment,
        complete=_complete_deployment,
        failed=_failed_deployment,
        keep=_keep_deployment,
        gone=_deployment_gone,
    ),
}
