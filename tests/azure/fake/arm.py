"""Azure Resource Manager for every type alike: PUT, GET, PATCH, DELETE and lists by id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.azure.fake.contracts import Checked
from tests.azure.fake.kinds import kind_of
from tests.azure.fake.messages import AzureError, Reply, Request
from tests.azure.fake.operations import headers_of
from tests.azure.fake.router import ARM, Routes
from tests.azure.fake.store import Id, Resource

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

routes = Routes()


def hold_to(azure: FakeAzure, checked: Checked | None, what: str) -> str:
    """Refuse what violates its contract, if the fake is strict; returns the contract's name.

    Raises:
        AzureError: 400 with the path of each property that is wrong.
    """
    if checked is None:
        azure.unchecked.add(what)
        return ""
    azure.violations += [f"{what}: {error}" for error in checked.errors]
    if checked.errors and azure.strict:
        message = (
            f"The request content is invalid ({checked.contract}): {'; '.join(checked.errors)}"
        )
        raise AzureError(400, "InvalidRequestContent", message)
    return checked.contract


def write_resource(azure: FakeAzure, id_: Id, body: dict[str, Any]) -> tuple[Resource, bool]:
    """Keep a resource whose body was checked; returns it and whether it is new.

    Raises:
        AzureError: 404, its parent is not there; or what its type refuses.
    """
    azure.store.require_parent(id_)
    kind = kind_of(id_.kind)
    for policy in azure.policies:
        policy.meet(id_, body)
    kind.refuse(azure, id_, body)
    before = azure.store.get(id_.text)
    resource = azure.store.put(id_, body)
    identify(azure, resource, before)
    kind.complete(azure, resource)
    if kind.stateful:
        resource.properties["provisioningState"] = "Succeeded"
    return resource, before is None


def identify(azure: FakeAzure, resource: Resource, before: Resource | None) -> None:
    """Give a resource with a system-assigned identity its principal, the one it had if any."""
    identity = resource.body.get("identity")
    if not isinstance(identity, dict):
        return
    known = (before.body.get("identity") or {}) if before else {}
    if "SystemAssigned" in identity.get("type", ""):
        made = azure.subscription.principal(resource.id.text)
        identity["principalId"] = known.get("principalId", made)
        identity["tenantId"] = azure.login.tenant
    for name in identity.get("userAssignedIdentities") or {}:
        found = azure.store.need(name)
        keys = ("principalId", "clientId")
        identity["userAssignedIdentities"][name] = {key: found.properties[key] for key in keys}


@routes.on("PUT", ARM, "/{rest...}")
def put(azure: FakeAzure, request: Request, rest: str) -> Reply:
    id_ = Id(request.path.rstrip("/"))
    body = request.body
    checked = azure.contracts.check_resource(id_.kind, request.api_version, body)
    if checked is None:
        checked = azure.contracts.check_request("PUT", id_.text, request.api_version, body)
    request.contract = hold_to(azure, checked, f"{id_.kind}@{request.api_version}")
    if not isinstance(body, dict):
        raise AzureError(400, "InvalidRequestContent", "the body is not an object")
    if azure.operations.running(id_.text):
        raise AzureError(409, "Conflict", f"Another operation is in progress on {id_.text}.")
    resource, new = write_resource(azure, id_, body)
    return _accepted(azure, request, resource, new)


def _accepted(azure: FakeAzure, request: Request, resource: Resource, new: bool) -> Reply:
    kind = kind_of(resource.kind)
    error = azure.operations.failure_of(resource.id.text)
    if not kind.slow:
        if error:
            azure.store.delete(resource.id.text)
            raise error
        return Reply(kind.accepted if new else 200, resource.body)
    resource.properties["provisioningState"] = "Creating" if new else "Updating"

    def finish() -> None:
        resource.properties["provisioningState"] = "Failed" if error else "Succeeded"
        if error:
            kind.failed(azure, resource, error)

    operation = azure.operations.start(resource.id.text, finish, error)
    headers = headers_of(operation, request.api_version)
    return Reply(kind.accepted, resource.body, headers)


@routes.on("GET", ARM, "/{rest...}")
def get(azure: FakeAzure, request: Request, rest: str) -> Reply:
    id_ = Id(request.path.rstrip("/"))
    if id_.is_collection:
        azure.operations.look(id_.parent)
        azure.store.require_parent(id_)
        return Reply(body={"value": [child.body for child in azure.store.children(id_.text)]})
    azure.operations.look(id_.text)
    return Reply(body=azure.store.need(id_.text).body)


@routes.on("DELETE", ARM, "/{rest...}")
def delete(azure: FakeAzure, request: Request, rest: str) -> Reply:
    id_ = Id(request.path.rstrip("/"))
    resource = azure.store.get(id_.text)
    if resource is None:
        azure.store.require_parent(id_)
        return Reply(204)
    kind = kind_of(id_.kind)
    kind.keep(azure, resource)
    if not kind.slow_delete:
        remove(azure, id_.text)
        return Reply(200)
    resource.properties["provisioningState"] = "Deleting"
    operation = azure.operations.start(id_.text, lambda: remove(azure, id_.text))
    # A group is removed without a status URL: its Location answers 202 until it is done.
    final = "location" if id_.kind.endswith("/resourceGroups") else "results"
    return Reply(kind.removed, headers=headers_of(operation, request.api_version, final))


def remove(azure: FakeAzure, id_: str) -> None:
    """Remove a resource and what lies in it, and let each type know."""
    for resource in azure.store.delete(id_):
        kind_of(resource.kind).gone(azure, resource)
