"""Names that the recipe uses: free, or of what it made before, or taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from setup.azure.client.explain import FORBIDDEN, azure_errors, look_for, status_of
from setup.azure.client.names import Names, derive_names
from setup.azure.client.ownership import (
    find_group,
    refuse_deleting,
    refuse_foreign,
    refuse_foreign_group,
)
from setup.azure.client.session import AzureSession
from setup.azure.provision.vault import is_recoverable
from setup.common.checks import Check
from setup.common.errors import FixableError

_ML = "Microsoft.MachineLearningServices"

Resources = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class _Shared:
    """A resource whose name no two customers can have."""

    field: str
    provider: str
    kind: str
    name: str

    @property
    def title(self) -> str:
        return self.field.replace("_", " ")


def name_checks(session: AzureSession) -> Iterator[Check]:
    """One finding for each kind of name; reads, and asks the services whether a name is free."""
    names = derive_names(session.recipe, session.subscription_id)
    try:
        group = find_group(session)
        there = _there(session) if group else {}
    except FixableError as error:
        yield Check("names", error.what, error.fix)
        return
    yield _told("resource group", lambda: (_group(session, group), ""))
    for shared in _shared(names):
        yield _told(shared.title, partial(_free_or_ours, session, shared, there))
    yield _told("workspaces and endpoint", lambda: (_inside(session, names, there), ""))


def _told(title: str, look: Callable[[], tuple[str, str]]) -> Check:
    """Make a finding of what ``look`` says, a detail and a fix, or of what it raises."""
    try:
        return Check(title, *look())
    except FixableError as error:
        return Check(title, error.what, error.fix)


def _there(session: AzureSession) -> Resources:
    """Everything in the group as Azure lists it, by ``type/name`` in lower case."""
    with azure_errors(f"listing what is in resource group {session.group}"):
        resources = session.arm.list(f"{session.group_id}/resources")
    return {f"{resource['type']}/{resource['name']}".lower(): resource for resource in resources}


def _group(session: AzureSession, group: Mapping[str, Any] | None) -> str:
    if group is None:
        return f"{session.group} is free"
    refuse_deleting(session, group)
    refuse_foreign_group(session, group)
    location, region = str(group.get("location", "")), session.recipe.azure.location
    detail = f"{session.group} is there, in {location}"
    if location.replace(" ", "").lower() != region:
        detail += f"; its resources will be in {region}"
    return detail


def _shared(names: Names) -> list[_Shared]:
    return [
        _Shared("storage", "Microsoft.Storage", "storageAccounts", names.storage),
        _Shared("key_vault", "Microsoft.KeyVault", "vaults", names.key_vault),
        _Shared("registry", "Microsoft.ContainerRegistry", "registries", names.registry),
    ]


def _free_or_ours(session: AzureSession, shared: _Shared, there: Resources) -> tuple[str, str]:
    """Say of the name what there is to say, and the fix if there is one to make."""
    kind = f"{shared.provider}/{shared.kind}"
    if resource := there.get(f"{kind}/{shared.name}".lower()):
        refuse_foreign(f"{shared.title} {shared.name}", resource, f"azure.{shared.field}")
        return f"{shared.name} is ours", ""
    if shared.kind == "vaults" and is_recoverable(session):
        return f"{shared.name} was deleted and not purged: provision takes it back", ""
    path = f"/subscriptions/{session.subscription_id}/providers/{shared.provider}"
    body = {"name": shared.name, "type": kind}
    try:
        with azure_errors(f"asking whether the name {shared.name} is free"):
            answer = session.arm.post(f"{path}/checkNameAvailability", body)
    except FixableError as error:
        if status_of(error) != FORBIDDEN:
            raise
        # It takes a right on the subscription, where everything else takes one on the group.
        return f"{shared.name}: you may not ask whether it is free, provision will find out", ""
    if answer.get("nameAvailable"):
        return f"{shared.name} is free", ""
    why = answer.get("message") or answer.get("reason") or "no reason given"
    return f"{shared.name} is taken: {why}", f"--set azure.{shared.field}=NAME"


def _inside(session: AzureSession, names: Names, there: Resources) -> str:
    """Names within the group; that of an endpoint is asked of its region when it is made."""
    parts = []
    for field in ("workspace", "hub", "project"):
        name = str(getattr(names, field))
        resource = there.get(f"{_ML}/workspaces/{name}".lower())
        if resource:
            refuse_foreign(f"{field} {name}", resource, f"azure.{field}")
        parts.append(f"{name} is {'ours' if resource else 'free'}")
    path = f"{session.workspace_path()}/onlineEndpoints/{names.endpoint}"
    endpoint = look_for(f"reading endpoint {names.endpoint}", session.arm.get, path)
    parts.append(f"endpoint {names.endpoint} is {'ours' if endpoint else 'not there yet'}")
    return ", ".join(parts)
