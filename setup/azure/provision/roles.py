"""Who may do what after provisioning: the template's role assignments, found by what they allow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from setup.azure.client.arm import STORAGE_RETRIES
from setup.azure.client.explain import FORBIDDEN, status_of
from setup.azure.client.names import role_assignment_name
from setup.azure.client.session import AzureSession, azure_errors
from setup.azure.client.waiting import NotYetError, wait_until
from setup.azure.provision.infra import template
from setup.common import console
from setup.common.errors import FixableError

PATIENCE = 600.0  # seconds: "up to ten minutes", https://learn.microsoft.com/azure/role-based-access-control/troubleshooting
_PAUSE = 5.0
_CONTAINER = "azureml-blobstore-{id}"  # Azure ML makes it in the storage of a workspace


@dataclass(frozen=True)
class Role:
    """An assignment: ``title`` for people, ids of scope, principal and role definition."""

    title: str
    scope: str
    principal: str
    kind: str
    role: str


def wanted_roles(session: AzureSession, resources: Mapping[str, Mapping[str, Any]]) -> list[Role]:
    """The assignments that the template makes, without those of resources that are not there.

    Args:
        session: Of the recipe.
        found: The resources there are, by key (``setup.azure.provision.inventory.find_all``).

    Raises:
        FixableError: The login cannot be found out.
    """
    ids = _role_ids()
    me = session.principal
    identity = str(
        ((resources.get("identity") or {}).get("properties") or {}).get("principalId", "")
    )
    narrow = session.recipe.azure.roles == "narrow"
    rows = [
        ("identity", "blobReader", "storage"),
        ("identity", "blobContributor", "storage"),
        ("identity", "acrPull", "registry"),
        ("identity", *(("metricsWriter", "workspace") if narrow else ("contributor", "group"))),
        ("you", "blobContributor", "storage"),
        ("you", "fileContributor", "storage"),
    ]
    whom = {"identity": (identity, "ServicePrincipal"), "you": (me.object_id, me.kind)}
    scopes = {key: str(body["id"]) for key, body in resources.items()} | {"group": session.group_id}
    return [
        Role(f"{role} of {who} on {key}", scopes[key], *whom[who], ids[role])
        for who, role, key in rows
        if key in scopes and whom[who][0]
    ]


def missing_roles(session: AzureSession, roles: Iterable[Role]) -> list[Role]:
    """Those that nobody has assigned, by whatever name, at their scope or above it.

    Raises:
        FixableError: Azure cannot be asked.
    """
    roles = list(roles)
    there: list[tuple[str, str, str]] = []
    with azure_errors("listing the role assignments"):
        for principal in dict.fromkeys(role.principal for role in roles):
            listed = session.authorization.role_assignments.list_for_scope(
                session.group_id, filter=f"principalId eq '{principal}'"
            )
            there += [_assigned(role) for role in listed]
    return [role for role in roles if not any(_covers(assignment, role) for assignment in there)]


def _assigned(assignment: Any) -> tuple[str, str, str]:
    role = assignment.role_definition_id.rpartition("/")[2].lower()
    return assignment.principal_id.lower(), role, assignment.scope.lower().rstrip("/")


def _covers(assignment: tuple[str, str, str], wanted_role: Role) -> bool:
    principal, role, scope = assignment
    same = (principal, role) == (wanted_role.principal.lower(), wanted_role.role.lower())
    return same and f"{wanted_role.scope.lower()}/".startswith(f"{scope}/")


def assign(session: AzureSession, role: Role) -> None:
    """Make one assignment; one of the same by another name counts as made.

    Raises:
        FixableError: Azure refuses it.
    """
    from azure.core.exceptions import ResourceExistsError  # noqa: PLC0415 - azure is slow
    from azure.mgmt.authorization.v2022_04_01.models import (  # noqa: PLC0415
        RoleAssignmentCreateParameters,
    )

    name = role_assignment_name(role.scope, role.principal, role.role)
    definition = (
        f"/subscriptions/{session.subscription_id}/providers/Microsoft.Authorization"
        f"/roleDefinitions/{role.role}"
    )
    body = RoleAssignmentCreateParameters(
        role_definition_id=definition, principal_id=role.principal, principal_type=role.kind
    )
    with azure_errors(f"assigning {role.title}"):
        try:
            session.authorization.role_assignments.create(role.scope, name, body)
        except ResourceExistsError:
            return


def wait_until_allowed(
    session: AzureSession, storage: Mapping[str, Any], workspace: Mapping[str, Any]
) -> None:
    """Read blobs as the login until Azure lets it: a new role takes minutes to be seen everywhere.

    The identity's roles were assigned at the same time and cannot be tried from here.

    Raises:
        FixableError: Still not allowed after ``PATIENCE``, or another reason.
    """
    name, refusals = storage["name"], list[FixableError]()

    def is_allowed() -> bool:
        try:
            with azure_errors(f"reading storage account {name}"):
                _read(session, storage, workspace)
        except FixableError as error:
            if status_of(error) != FORBIDDEN:
                raise
            if not refusals:
                minutes = f"up to {PATIENCE / 60:.0f} minutes"
                console.err.print(f"waiting for the new roles to work: {minutes}", markup=False)
            refusals.append(error)
            return False
        return True

    what = f"waiting until you may read storage account {name}"
    with console.err.status(what):
        try:
            wait_until(is_allowed, PATIENCE, _PAUSE, what)
        except NotYetError:
            raise _not_yet(name, refusals[-1]) from None


def _read(session: AzureSession, storage: Mapping[str, Any], workspace: Mapping[str, Any]) -> None:
    from azure.core.exceptions import ResourceNotFoundError  # noqa: PLC0415
    from azure.storage.blob import ContainerClient  # noqa: PLC0415

    url = storage["properties"]["primaryEndpoints"]["blob"].rstrip("/")
    container = _CONTAINER.format(id=workspace["properties"]["workspaceId"])
    client = ContainerClient(url, container, session.credential, **STORAGE_RETRIES)
    try:
        next(iter(client.list_blob_names(results_per_page=1)), None)
    except ResourceNotFoundError:
        return  # allowed: there only is nothing yet


def _not_yet(name: str, error: FixableError) -> FixableError:
    minutes = PATIENCE / 60
    return FixableError(
        f"after {minutes:.0f} minutes you still may not read storage account {name}: {error.what}",
        "the role is assigned and takes its time: wait ten minutes and run the same command again",
    )


def _role_ids() -> dict[str, str]:
    """Role definitions by the names that the template's module of roles has for them."""
    for entry in template()["resources"]:
        nested = (entry.get("properties") or {}).get("template")
        if nested:
            return dict(nested["variables"])
    raise LookupError("the template has no module of roles")
