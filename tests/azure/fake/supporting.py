"""What a workspace stands on: storage, key vault, insights, registry, identities, roles."""

from __future__ import annotations

import base64
import re
import uuid
from typing import TYPE_CHECKING, Any

from tests.azure.fake.kinds import KINDS, Kind
from tests.azure.fake.messages import AzureError, Reply, Request
from tests.azure.fake.router import ARM, Routes
from tests.azure.fake.store import Id, Resource

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

ROLES = {
    "Owner": "8e3af657-a8ff-443c-a75c-2fe8c4bcb635",
    "Contributor": "b24988ac-6180-42a0-ab88-20f7382dd24c",
    "Reader": "acdd72a7-3385-48ef-bd42-f606fba81ae7",
    "Storage Blob Data Contributor": "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "Storage Blob Data Reader": "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
    "Storage Queue Data Contributor": "974c5e8b-45b9-4653-ba55-5f855dd0fb88",
    "Storage Table Data Contributor": "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
    "Storage File Data Privileged Contributor": "69566ab7-960f-475b-8e7c-b3118f30c6bd",
    "AcrPull": "7f951dda-4ed3-4680-a7ca-43fe172d538d",
    "AcrPush": "8311e382-0749-4cb8-b61a-304f252e45ec",
    "AzureML Metrics Writer (preview)": "635dd51f-9968-44d3-b7fb-6d9a6bd613ae",
    "Azure AI Administrator": "b78c5d69-af96-48a3-bf8d-a8b4d589de94",
}
ASSIGNMENT = "microsoft.authorization/roleassignments"
STORAGE = "microsoft.storage/storageaccounts"
VAULT = "microsoft.keyvault/vaults"
IDENTITY = "microsoft.managedidentity/userassignedidentities"

routes = Routes()


def _stable(*parts: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(parts).lower()))


def _refuse_storage(azure: FakeAzure, id_: Id, body: dict[str, Any]) -> None:
    if not re.fullmatch("[a-z0-9]{3,24}", id_.name):
        message = f"{id_.name} is not a valid storage account name: 3 to 24 of a-z and 0-9."
        raise AzureError(400, "AccountNameInvalid", message)
    for other in azure.store:
        taken = other.kind == STORAGE and other.id.name == id_.name
        if taken and other.id.key != id_.key:
            message = f"The storage account named {id_.name} is already taken."
            raise AzureError(409, "StorageAccountAlreadyTaken", message)


def _complete_storage(azure: FakeAzure, account: Resource) -> None:
    host = f"{account.id.name}.{{}}.core.windows.net"
    services = ("blob", "file", "queue", "table", "dfs")
    account.properties["primaryEndpoints"] = {
        service: f"https://{host.format(service)}/" for service in services
    }
    account.properties["primaryLocation"] = account.body["location"]
    account.hidden["key"] = base64.b64encode(_stable(account.id.text, "key").encode()).decode()


def _storage_gone(azure: FakeAzure, account: Resource) -> None:
    azure.storage.drop(account.id.name)


def _refuse_vault(azure: FakeAzure, id_: Id, body: dict[str, Any]) -> None:
    if not re.fullmatch("[A-Za-z][A-Za-z0-9-]{1,22}[A-Za-z0-9]", id_.name):
        raise AzureError(400, "VaultNameNotValid", f"The vault name '{id_.name}' is invalid.")
    recovers = body["properties"].get("createMode") == "recover"
    if id_.key in azure.subscription.soft_deleted and not recovers:
        message = (
            f"A vault with the name '{id_.name}' already exists in deleted state. "
            "You need to either recover or purge existing key vault."
        )
        raise AzureError(409, "ConflictError", message)


def _complete_vault(azure: FakeAzure, vault: Resource) -> None:
    azure.subscription.soft_deleted.pop(vault.id.key, None)
    vault.properties["vaultUri"] = f"https://{vault.id.name}.vault.azure.net/"


def _vault_gone(azure: FakeAzure, vault: Resource) -> None:
    azure.subscription.soft_deleted[vault.id.key] = vault.body


_DELETED = "/subscriptions/{sub}/providers/Microsoft.KeyVault/locations/{location}/deletedVaults"


def _deleted_vault(azure: FakeAzure, name: str) -> str:
    for key in azure.subscription.soft_deleted:
        if Id(key).kind == VAULT and Id(key).name == name.lower():
            return key
    raise AzureError(
        404, "DeletedVaultNotFound", f"The specified deleted vault {name} is not found."
    )


@routes.on("GET", ARM, f"{_DELETED}/{{name}}")
def get_deleted_vault(
    azure: FakeAzure, request: Request, location: str, name: str, **_: str
) -> Reply:
    path = _deleted_vault(azure, name)
    tags = azure.subscription.soft_deleted[path].get("tags", {})
    properties = {"vaultId": path, "location": location, "tags": tags}
    return Reply(body={"id": request.path, "name": name, "properties": properties})


@routes.on("POST", ARM, f"{_DELETED}/{{name}}/purge")
def purge_vault(azure: FakeAzure, request: Request, name: str, **_: str) -> Reply:
    del azure.subscription.soft_deleted[_deleted_vault(azure, name)]
    return Reply(200)


def _complete_identity(azure: FakeAzure, identity: Resource) -> None:
    identity.properties["principalId"] = azure.subscription.principal(identity.id.text)
    identity.properties["clientId"] = _stable(identity.id.text, "client")
    identity.properties["tenantId"] = azure.login.tenant


def _complete_insights(azure: FakeAzure, component: Resource) -> None:
    key = _stable(component.id.text, "instrumentation")
    component.properties["InstrumentationKey"] = key
    component.properties["AppId"] = _stable(component.id.text, "application")
    component.properties["ConnectionString"] = f"InstrumentationKey={key}"


def _complete_logs(azure: FakeAzure, workspace: Resource) -> None:
    workspace.properties["customerId"] = _stable(workspace.id.text, "customer")


def _complete_registry(azure: FakeAzure, registry: Resource) -> None:
    registry.properties["loginServer"] = f"{registry.id.name.lower()}.azurecr.io"


def _refuse_registry(azure: FakeAzure, id_: Id, body: dict[str, Any]) -> None:
    if not re.fullmatch("[A-Za-z0-9]{5,50}", id_.name):
        raise AzureError(400, "InvalidResourceName", f"{id_.name} is no name of a registry.")


def _refuse_assignment(azure: FakeAzure, id_: Id, body: dict[str, Any]) -> None:
    uuid.UUID(id_.name)
    wanted = body["properties"]
    role = wanted["roleDefinitionId"].rpartition("/")[2]
    if role not in ROLES.values():
        message = f"The specified role definition with ID '{role}' does not exist."
        raise AzureError(404, "RoleDefinitionDoesNotExist", message)
    for other in azure.store.children(f"{id_.scope}/providers/{id_.kind}"):
        same = all(
            other.properties[key].lower() == wanted[key].lower()
            for key in ("principalId", "roleDefinitionId")
        )
        if other.id.key == id_.key and not same:
            message = (
                "Tenant ID, application ID, principal ID, and scope are not allowed to be updated."
            )
            raise AzureError(400, "RoleAssignmentUpdateNotPermitted", message)
        if same and other.id.scope.lower() == id_.scope.lower() and other.id.key != id_.key:
            raise AzureError(409, "RoleAssignmentExists", "The role assignment already exists.")


def _complete_assignment(azure: FakeAzure, assignment: Resource) -> None:
    assignment.properties["scope"] = assignment.id.scope
    assignment.properties.setdefault("principalType", "User")


@routes.on("GET", ARM, "/{scope...}/providers/Microsoft.Authorization/roleAssignments")
def list_assignments(azure: FakeAzure, request: Request, scope: str) -> Reply:
    """At the scope, below it, and above it, as Azure lists them; one principal's if asked."""
    principal = re.search(
        r"(?:principalId eq|assignedTo\() ?'([^']+)'", request.query.get("$filter", "")
    )
    below = "atscope()" not in request.query.get("$filter", "").lower()
    at = f"/{scope}".lower().rstrip("/")
    found = []
    for one in azure.store:
        if one.kind != ASSIGNMENT:
            continue
        its = one.id.scope.lower()
        within = f"{at}/".startswith(f"{its}/") or (below and its.startswith(f"{at}/"))
        if within and (principal is None or one.properties["principalId"] == principal[1]):
            found.append(one.body)
    return Reply(body={"value": found})


@routes.on("GET", ARM, "/{scope...}/providers/Microsoft.Authorization/permissions")
def list_permissions(azure: FakeAzure, request: Request, scope: str) -> Reply:
    may = {"actions": azure.subscription.actions, "notActions": azure.subscription.not_actions}
    return Reply(body={"value": [may | {"dataActions": [], "notDataActions": []}]})


KINDS |= {
    STORAGE: Kind(
        refuse=_refuse_storage, complete=_complete_storage, gone=_storage_gone, accepted=200
    ),
    VAULT: Kind(refuse=_refuse_vault, complete=_complete_vault, gone=_vault_gone),
    IDENTITY: Kind(stateful=False, complete=_complete_identity),
    "microsoft.insights/components": Kind(complete=_complete_insights),
    "microsoft.operationalinsights/workspaces": Kind(slow=True, complete=_complete_logs),
    "microsoft.containerregistry/registries": Kind(
        refuse=_refuse_registry, complete=_complete_registry, slow=True
    ),
    ASSIGNMENT: Kind(stateful=False, refuse=_refuse_assignment, complete=_complete_assignment),
}
