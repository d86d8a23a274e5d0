"""The recipe's place in Azure: what the login may do there, and which names are free, or ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from setup.azure.client import ownership
from setup.azure.client.session import AzureSession
from setup.azure.provision.vault import is_recoverable
from setup.common.checks import Check
from setup.common.errors import FixableError

# What the path writes, and the least built-in role that may.
_NEEDED = {
    "Microsoft.MachineLearningServices/workspaces/write": "Contributor",
    "Microsoft.Authorization/roleAssignments/write": "Role Based Access Control Administrator",
}
_MAKE_GROUP = "Microsoft.Resources/subscriptions/resourceGroups/write"
_SPACES = "Microsoft.MachineLearningServices/workspaces"
# Types whose names no two customers can share, by the field of the recipe.
_SHARED = {
    "storage": "Microsoft.Storage/storageAccounts",
    "key_vault": "Microsoft.KeyVault/vaults",
    "registry": "Microsoft.ContainerRegistry/registries",
}

Resources = Mapping[str, Mapping[str, Any]]


def missing_rights(session: AzureSession) -> tuple[dict[str, str], str]:
    """Actions that the login lacks with the role that has them, and the scope that was asked."""
    exists = session.find_group() is not None
    scope = session.group_id if exists else f"/subscriptions/{session.subscription_id}"
    with session.errors("reading what the login may do"):
        granted = session.arm.list(f"{scope}/providers/Microsoft.Authorization/permissions")
    needed = _NEEDED if exists else {_MAKE_GROUP: "Contributor", **_NEEDED}
    return {action: role for action, role in needed.items() if not _may(granted, action)}, scope


def _may(granted: list[dict[str, Any]], action: str) -> bool:
    """Tell whether one of the roles allows it: a role's exceptions count for that role alone."""
    return any(
        _matches(role.get("actions", []), action)
        and not _matches(role.get("notActions", []), action)
        for role in granted
    )


def _matches(patterns: list[str], action: str) -> bool:
    expressions = (re.escape(pattern).replace(r"\*", ".*") for pattern in patterns)
    return any(re.fullmatch(pattern, action, re.IGNORECASE) for pattern in expressions)


def name_checks(session: AzureSession) -> Iterator[Check]:
    """Yield a finding for each kind of name; asks the services whether a name is free."""
    try:
        group = session.find_group()
        there = _there(session) if group else {}
    except FixableError as error:
        yield Check("names", error.what, error.fix)
        return
    yield Check.of("resource group", lambda: _group(session, group))
    for field in _SHARED:
        try:
            yield Check(_title(field), *_free_or_ours(session, field, there))
        except FixableError as error:
            yield Check(_title(field), error.what, error.fix)
    yield Check.of("workspaces and endpoint", lambda: _inside(session, there))


def _there(session: AzureSession) -> Resources:
    """Return everything in the group as Azure lists it, by ``type/name`` in lower case."""
    with session.errors(f"listing what is in resource group {session.group}"):
        resources = session.arm.list(f"{session.group_id}/resources")
    return {f"{resource['type']}/{resource['name']}".lower(): resource for resource in resources}


def _title(field: str) -> str:
    return field.replace("_", " ")


def _group(session: AzureSession, group: Mapping[str, Any] | None) -> str:
    if group is None:
        return f"{session.group} is free"
    ownership.refuse_group(session.group, group)
    location, region = str(group.get("location", "")), session.recipe.azure.location
    detail = f"{session.group} is there, in {location}"
    if location.replace(" ", "").lower() != region:
        detail += f"; its resources will be in {region}"
    return detail


def _free_or_ours(session: AzureSession, field: str, there: Resources) -> tuple[str, str]:
    """Say of the name what there is to say, and the fix if there is one to make."""
    kind, name = _SHARED[field], str(getattr(session.names, field))
    if session.recipe.azure.existing.workspace or getattr(session.recipe.azure.existing, field):
        return "what is there already is used", ""
    if resource := there.get(f"{kind}/{name}".lower()):
        ownership.refuse_foreign(f"{_title(field)} {name}", resource, f"azure.{field}")
        return f"{name} is ours", ""
    if field == "key_vault" and is_recoverable(session):
        return f"{name} was deleted and not purged: provision takes it back", ""
    path = f"/subscriptions/{session.subscription_id}/providers/{kind.partition('/')[0]}"
    try:
        with session.errors(f"asking whether the name {name} is free"):
            asked = {"name": name, "type": kind}
            answer = session.arm.post(f"{path}/checkNameAvailability", asked)
    except FixableError as error:
        if not session.is_forbidden(error):
            raise
        # It takes a right on the subscription, where everything else takes one on the group.
        return f"{name}: you may not ask whether it is free, provision will find out", ""
    if answer.get("nameAvailable"):
        return f"{name} is free", ""
    why = answer.get("message") or answer.get("reason") or "no reason given"
    return f"{name} is taken: {why}", f"--set azure.{field}=NAME"


def _inside(session: AzureSession, there: Resources) -> str:
    """Tell names within the group; that of an endpoint is asked of its region when it is made."""
    parts, names = [], session.names
    for field in ("workspace", "hub", "project"):
        name = str(getattr(names, field))
        resource = there.get(f"{_SPACES}/{name}".lower())
        existing = field == "workspace" and session.recipe.azure.existing.workspace
        if resource and not existing:
            ownership.refuse_foreign(f"{field} {name}", resource, f"azure.{field}")
        parts.append(f"{name} is {'used' if existing else 'ours' if resource else 'free'}")
    path = f"{session.workspace_path()}/onlineEndpoints/{names.endpoint}"
    endpoint = session.find(f"reading endpoint {names.endpoint}", path)
    parts.append(f"endpoint {names.endpoint} is {'ours' if endpoint else 'not there yet'}")
    return ", ".join(parts)
