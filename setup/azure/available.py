"""Whether the names that the recipe uses are free, or name what it made before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from setup.azure.names import Names, derive_names
from setup.azure.session import AzureSession, azure_errors
from setup.doctor import Check
from setup.errors import FixableError

_GROUPS = "2021-04-01"
_VAULTS = "2023-07-01"
_ENDPOINTS = "2024-04-01"
_ML = "Microsoft.MachineLearningServices"


@dataclass(frozen=True)
class _Shared:
    """A resource whose name no two customers can have."""

    field: str
    provider: str
    kind: str
    api_version: str
    name: str


def name_checks(session: AzureSession) -> Iterator[Check]:
    """One finding for each kind of name; reads, and asks the services whether a name is free."""
    names = derive_names(session.recipe, session.subscription_id)
    try:
        with azure_errors(f"reading resource group {names.group}"):
            group = session.arm.find(session.group_id, _GROUPS)
            ours = _ours(session) if group else set()
    except FixableError as error:
        yield Check("names", error.what, error.fix)
        return
    yield _group(session, names, group is not None, group.get("location", "") if group else "")
    for shared in _shared(names):
        yield _free_or_ours(session, shared, ours)
    yield _inside(session, names, ours)


def _ours(session: AzureSession) -> set[str]:
    """``type/name`` of everything in the group, in lower case."""
    found = session.resources.resources.list_by_resource_group(session.group)
    return {f"{one.type}/{one.name}".lower() for one in found}


def _group(session: AzureSession, names: Names, exists: bool, location: str) -> Check:
    if not exists:
        return Check("resource group", f"{names.group} is free")
    wanted = session.recipe.azure.location
    detail = f"{names.group} is there, in {location}"
    if location.replace(" ", "").lower() != wanted:
        detail += f"; its resources will be in {wanted}"
    return Check("resource group", detail)


def _shared(names: Names) -> list[_Shared]:
    return [
        _Shared("storage", "Microsoft.Storage", "storageAccounts", "2023-05-01", names.storage),
        _Shared("key_vault", "Microsoft.KeyVault", "vaults", _VAULTS, names.key_vault),
        _Shared(
            "registry", "Microsoft.ContainerRegistry", "registries", "2023-07-01", names.registry
        ),
    ]


def _free_or_ours(session: AzureSession, shared: _Shared, ours: set[str]) -> Check:
    title = shared.field.replace("_", " ")
    kind = f"{shared.provider}/{shared.kind}"
    if f"{kind}/{shared.name}".lower() in ours:
        return Check(title, f"{shared.name} is ours")
    try:
        if shared.kind == "vaults" and (deleted := _deleted_vault(session, shared.name)):
            return _recoverable(session, shared.name, deleted)
        path = f"/subscriptions/{session.subscription_id}/providers/{shared.provider}"
        with azure_errors(f"asking whether the name {shared.name} is free"):
            answer = session.arm.post(
                f"{path}/checkNameAvailability",
                shared.api_version,
                {"name": shared.name, "type": kind},
            )
    except FixableError as error:
        return Check(title, error.what, error.fix)
    if answer.get("nameAvailable"):
        return Check(title, f"{shared.name} is free")
    why = answer.get("message") or answer.get("reason") or "no reason given"
    return Check(title, f"{shared.name} is taken: {why}", f"--set azure.{shared.field}=NAME")


def _deleted_vault(session: AzureSession, name: str) -> str:
    """The id a vault had that was deleted and not purged; its name stays taken. Empty: none."""
    location = session.recipe.azure.location
    path = f"/subscriptions/{session.subscription_id}/providers/Microsoft.KeyVault"
    with azure_errors(f"looking for a deleted vault {name}"):
        found = session.arm.find(f"{path}/locations/{location}/deletedVaults/{name}", _VAULTS)
    return str(found["properties"]["vaultId"]) if found else ""


def _recoverable(session: AzureSession, name: str, deleted: str) -> Check:
    if deleted.lower().startswith(f"{session.group_id}/".lower()):
        return Check("key vault", f"{name} was deleted and not purged: provision takes it back")
    fix = f"az keyvault purge --name {name}, or --set azure.key_vault=NAME"
    return Check("key vault", f"{name} is taken by a deleted vault, {deleted}", fix)


def _inside(session: AzureSession, names: Names, ours: set[str]) -> Check:
    """Names within the group; that of an endpoint is asked of its region when it is made."""
    wanted = {names.workspace, names.hub, names.project}
    there = {name for name in wanted if f"{_ML}/workspaces/{name}".lower() in ours}
    parts = [f"{name} is {'ours' if name in there else 'free'}" for name in sorted(wanted)]
    path = f"{session.group_id}/providers/{_ML}/workspaces/{names.workspace}/onlineEndpoints"
    try:
        with azure_errors(f"reading endpoint {names.endpoint}"):
            found = session.arm.find(f"{path}/{names.endpoint}", _ENDPOINTS)
    except FixableError as error:
        return Check("workspaces and endpoint", error.what, error.fix)
    parts.append(f"endpoint {names.endpoint} is {'ours' if found else 'not there yet'}")
    return Check("workspaces and endpoint", ", ".join(parts))
