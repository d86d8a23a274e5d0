"""Resources that are there already, for tests of what comes after."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from tests.azure.fake.arm import write_resource
from tests.azure.fake.store import Id
from tests.azure.fake.subscription import SUBSCRIPTION
from tests.azure.fake.supporting import ROLES

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure


def add_group(azure: FakeAzure, name: str = "rg", location: str = "eastus2") -> str:
    """A resource group; its id."""
    id_ = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{name}"
    return _add(azure, id_, location=location)


def add_workspace(azure: FakeAzure, name: str = "ws", group: str = "rg", **body: Any) -> str:
    """A workspace in a group, both made, with storage and key vault; its id.

    ``kind="Hub"``, or ``kind="Project", properties={"hubResourceId": ID}``. The signed-in
    principal may read and write the data.
    """
    root = add_group(azure, group) + "/providers/"
    place = {"location": "eastus2", "properties": {}}
    storage = _add(azure, f"{root}Microsoft.Storage/storageAccounts/st{name}", **place)
    vault = _add(azure, f"{root}Microsoft.KeyVault/vaults/kv-{name}", **place)
    add_role(azure, storage, azure.login.principal, "Storage Blob Data Contributor")
    add_role(azure, storage, azure.login.principal, "Storage File Data Privileged Contributor")
    properties = {"storageAccount": storage, "keyVault": vault}
    if "hubResourceId" in body.get("properties", {}):
        properties = {}
    body["properties"] = properties | body.get("properties", {})
    body = {"location": "eastus2", "identity": {"type": "SystemAssigned"}} | body
    return _add(azure, f"{root}Microsoft.MachineLearningServices/workspaces/{name}", **body)


def add_compute(azure: FakeAzure, workspace: str, name: str, size: str) -> str:
    """A cluster of a workspace; its id."""
    inner = {"computeType": "AmlCompute", "properties": {"vmSize": size}}
    return _add(azure, f"{workspace}/computes/{name}", location="eastus2", properties=inner)


def add_role(azure: FakeAzure, scope: str, principal: str, role: str) -> str:
    """A role assignment; its id."""
    name = uuid.uuid5(uuid.NAMESPACE_URL, f"{scope}{principal}{role}")
    base = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/"
    properties = {"principalId": principal, "roleDefinitionId": base + ROLES[role]}
    at = f"{scope}/providers/Microsoft.Authorization/roleAssignments/{name}"
    return _add(azure, at, properties=properties)


def _add(azure: FakeAzure, id_: str, **body: Any) -> str:
    with azure.lock:
        return write_resource(azure, Id(id_), body)[0].id.text
