"""Who may do what after provisioning: the template's role assignments, found by what they allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from setup.azure.client import waiting
from setup.azure.client.names import role_assignment_name
from setup.azure.client.session import AzureSession
from setup.azure.facts.offers import builds_on_cluster
from setup.azure.provision.infra import template
from setup.common import console
from setup.common.errors import FixableError

PATIENCE = 600.0  # seconds: "up to ten minutes", https://learn.microsoft.com/azure/role-based-access-control/troubleshooting
_PAUSE = 5.0
_CONTAINER = "azureml-blobstore-{id}"  # Azure ML makes it in the storage of a workspace
_OF = "providers/Microsoft.Authorization"

Bodies = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Role:
    """An assignment: ``title`` for people, ids of scope, principal and role definition."""

    title: str
    scope: str
    principal: str
    kind: str
    role: str

    def covered_by(self, assignment: Mapping[str, Any]) -> bool:
        """Tell whether an assignment, by whatever name, gives it at its scope or above."""
        role = assignment["roleDefinitionId"].rpartition("/")[2].lower()
        scope = assignment["scope"].lower().rstrip("/")
        same = (assignment["principalId"].lower(), role) == (self.principal.lower(), self.role)
        return same and f"{self.scope.lower()}/".startswith(f"{scope}/")


def wanted_roles(session: AzureSession, resources: Bodies) -> list[Role]:
    """List the assignments that the template makes, as far as their resources are there, by key."""
    ids, me = _role_ids(), session.principal
    identity = (resources.get("identity") or {}).get("properties") or {}
    narrow = session.recipe.azure.roles == "narrow"
    pushes = [("identity", "acrPush", "registry")] if builds_on_cluster(session) else []
    keyless = (
        [] if session.recipe.azure.shared_keys else [("identity", "blobContributor", "storage")]
    )
    rows = [
        ("identity", "blobReader", "storage"),
        *keyless,
        ("identity", "acrPull", "registry"),
        *pushes,
        ("identity", *(("metricsWriter", "workspace") if narrow else ("contributor", "group"))),
        ("you", "blobContributor", "storage"),
        ("you", "fileContributor", "storage"),
    ]
    whom = {
        "identity": (str(identity.get("principalId", "")), "ServicePrincipal"),
        "you": (me.object_id, me.kind),
    }
    scopes = {key: str(body["id"]) for key, body in resources.items()} | {"group": session.group_id}
    return [
        Role(f"{role} of {who} on {key}", scopes[key], *whom[who], ids[role].lower())
        for who, role, key in rows
        if key in scopes and whom[who][0]
    ]


def missing_roles(session: AzureSession, roles: list[Role]) -> list[Role]:
    """List those that nobody has assigned."""
    there: list[Mapping[str, Any]] = []
    with session.errors("listing the role assignments"):
        for principal, scope in dict.fromkeys(
            (role.principal, _listed_at(session, role.scope)) for role in roles
        ):
            there += assignments(session, f"principalId eq '{principal}'", scope)
    return [role for role in roles if not any(map(role.covered_by, there))]


def _listed_at(session: AzureSession, scope: str) -> str:
    """Return where an assignment at a scope is listed: the group, or what is used of another."""
    inside = f"{scope}/".lower().startswith(f"{session.group_id}/".lower())
    return "" if inside else scope


def assignments(
    session: AzureSession, condition: str = "", scope: str = ""
) -> list[dict[str, Any]]:
    """List what is assigned in the group, below and above it, with its ``id``; raise AzureError.

    ``scope`` is another place than the group.
    """
    query = {"$filter": condition} if condition else {}
    listed = session.arm.list(f"{scope or session.group_id}/{_OF}/roleAssignments", **query)
    return [{**row["properties"], "id": row["id"]} for row in listed]


def assign(session: AzureSession, role: Role) -> None:
    """Make one assignment; one of the same by another name counts as made."""
    from azure.core.exceptions import ResourceExistsError

    name = role_assignment_name(role.scope, role.principal, role.role)
    definition = f"/subscriptions/{session.subscription_id}/{_OF}/roleDefinitions/{role.role}"
    properties = {
        "roleDefinitionId": definition,
        "principalId": role.principal,
        "principalType": role.kind,
    }
    with session.errors(f"assigning {role.title}"):
        try:
            path = f"{role.scope}/{_OF}/roleAssignments/{name}"
            session.arm.put(path, {"properties": properties})
        except ResourceExistsError:
            return


def wait_until_allowed(
    session: AzureSession, storage: Mapping[str, Any], workspace: Mapping[str, Any]
) -> None:
    """Read blobs as the login until Azure lets it: a new role takes minutes to be seen everywhere.

    The identity's roles were assigned at the same time and cannot be tried from here.
    """
    name, refusals = storage["name"], list[FixableError]()
    minutes = f"{PATIENCE / 60:.0f} minutes"

    def is_allowed() -> bool:
        try:
            session.look_for(f"reading storage account {name}", _read, session, storage, workspace)
        except FixableError as error:
            if not session.is_forbidden(error):
                raise
            if not refusals:
                told = f"waiting for the new roles to work: up to {minutes}"
                console.err.print(told, markup=False)
            refusals.append(error)
            return False
        return True  # also where there is nothing yet: looking was allowed

    what = f"waiting until you may read storage account {name}"
    with console.err.status(what):
        try:
            waiting.wait_until(is_allowed, PATIENCE, _PAUSE, what)
        except waiting.NotYetError:
            raise FixableError(
                f"after {minutes} you still may not read storage account {name}: "
                f"{refusals[-1].what}",
                "the role is assigned and takes its time: wait ten minutes and run the same "
                "command again",
            ) from None


def _read(session: AzureSession, storage: Mapping[str, Any], workspace: Mapping[str, Any]) -> None:
    url = storage["properties"]["primaryEndpoints"]["blob"].rstrip("/")
    container = _CONTAINER.format(id=workspace["properties"]["workspaceId"])
    blobs = session.blob_container(url, container).list_blob_names(results_per_page=1)
    next(iter(blobs), None)


def _role_ids() -> dict[str, str]:
    """Return role definitions by the names that the template's module of roles has for them."""
    modules = [(entry.get("properties") or {}).get("template") for entry in template()["resources"]]
    return dict(next(module for module in modules if module)["variables"])
