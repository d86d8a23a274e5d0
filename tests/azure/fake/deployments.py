"""Deployments of ARM templates, into a resource group or the subscription."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.azure.fake.arm import hold_to
from tests.azure.fake.messages import AzureError, Reply, Request
from tests.azure.fake.operations import headers_of
from tests.azure.fake.router import ARM, Routes
from tests.azure.fake.store import Id
from tests.azure.fake.templates import Deployed, Template

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

_PATH = "/{scope...}/providers/Microsoft.Resources/deployments/{name}"

routes = Routes()


def _template(azure: FakeAzure, request: Request, id_: Id) -> Template:
    checked = azure.contracts.check_request(
        request.method, request.path, request.api_version, request.body
    )
    request.contract = hold_to(azure, checked, f"{id_.kind}@{request.api_version}")
    azure.store.require_parent(id_)
    properties = request.body["properties"]
    return Template(
        azure, id_.name, id_.scope, properties["template"], properties.get("parameters")
    )


def _failed(error: AzureError) -> AzureError:
    message = "At least one resource deployment operation failed."
    whole = AzureError(400, "DeploymentFailed", message)
    whole.details = [error]
    return whole


@routes.on("PUT", ARM, _PATH)
def put(azure: FakeAzure, request: Request, scope: str, name: str) -> Reply:
    id_ = Id(request.path)
    if azure.operations.running(id_.text):
        message = f"The deployment '{name}' is active and cannot be edited."
        raise AzureError(409, "DeploymentActive", message)
    done = _template(azure, request, id_).deploy()
    error = _failed(done.error) if done.error else None
    body = {"properties": _properties(request, done), "location": request.body.get("location")}
    resource = azure.store.put(id_, {key: value for key, value in body.items() if value})
    resource.hidden["done"] = done

    def finish() -> None:
        resource.properties["provisioningState"] = "Failed" if error else "Succeeded"
        if error:
            resource.properties["error"] = error.body["error"]
        else:
            resource.properties["outputs"] = done.outputs

    operation = azure.operations.start(id_.text, finish, error)
    return Reply(201, resource.body, headers_of(operation, request.api_version))


def _properties(request: Request, done: Deployed) -> dict[str, Any]:
    return {
        "provisioningState": "Running",
        "mode": request.body["properties"]["mode"],
        "parameters": {
            name: {"type": type(value).__name__, "value": value}
            for name, value in done.parameters.items()
        },
        "outputResources": [{"id": resource.id.text} for resource in done.resources],
        "timestamp": "2026-11-22T12:00:00Z",
        "duration": "PT1S",
        "correlationId": "00000000-0000-4000-8000-000000000000",
    }


@routes.on("GET", ARM, "/{scope...}/deployments/{name}/operations")
def list_operations(azure: FakeAzure, request: Request, scope: str, name: str) -> Reply:
    scope = scope.removesuffix("/").removesuffix("/providers/Microsoft.Resources")
    deployment = azure.store.need(f"/{scope}/providers/Microsoft.Resources/deployments/{name}")
    done: Deployed = deployment.hidden["done"]
    found = [
        _operation(request, number, resource.id, "Succeeded", None)
        for number, resource in enumerate(done.resources)
    ]
    if done.error:
        at = done.failed_at or deployment.id
        found.append(_operation(request, len(found), at, "Failed", done.error))
    return Reply(body={"value": found})


def _operation(
    request: Request, number: int, target: Id, state: str, error: AzureError | None
) -> dict[str, Any]:
    resource = {"id": target.text, "resourceType": target.kind, "resourceName": target.name}
    properties: dict[str, Any] = {
        "provisioningOperation": "Create",
        "provisioningState": state,
        "timestamp": "2026-11-22T12:00:00Z",
        "duration": "PT1S",
        "serviceRequestId": "00000000-0000-4000-8000-000000000001",
        "statusCode": "BadRequest" if error else "OK",
        "targetResource": resource,
    }
    if error:
        properties["statusMessage"] = error.body
    return {
        "id": f"{request.path}/{number}",
        "operationId": str(number),
        "properties": properties,
    }
