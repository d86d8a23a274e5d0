"""What is left of us in Azure, in the order in which it can be deleted; found by reading."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from setup.azure.infra import template
from setup.azure.names import derive_names
from setup.azure.ours import GROUPS, MADE, mark_of, refuse_foreign
from setup.azure.prices import price_class
from setup.azure.session import AzureSession, azure_errors

_ML = "Microsoft.MachineLearningServices/workspaces"
_ENDPOINTS = "2024-04-01"
_CHARGED = ("storageaccounts", "registries")  # what costs by the hour although nobody uses it
_IDENTITIES = "userassignedidentities"
# What Application Insights makes by itself beside a component of ours, without our tags; free.
_BY_ITSELF = (
    "microsoft.insights/actiongroups",
    "microsoft.alertsmanagement/smartdetectoralertrules",
)


@dataclass(frozen=True)
class Item:
    """Something to delete: ``params`` go into the query of its DELETE.

    ``ours`` is false for what somebody else has put into a workspace of ours.
    """

    path: str
    title: str
    api_version: str
    cost: str
    params: dict[str, str] = field(default_factory=dict)
    ours: bool = True

    @property
    def name(self) -> str:
        """The last part of its id."""
        return _name(self.path)

    def line(self) -> str:
        """For people."""
        return f"{self.title}: {self.cost}"


def _listed(session: AzureSession, path: str) -> list[dict[str, Any]]:
    """The list at ``path``; empty where that in which it would be is gone."""
    from azure.core.exceptions import ResourceNotFoundError  # noqa: PLC0415 - azure is slow

    try:
        return session.arm.list(path, _ENDPOINTS)
    except ResourceNotFoundError:
        return []


def endpoints_of(session: AzureSession, workspace: str) -> list[Item]:
    """The online endpoints of the workspace with this id, with what their deployments cost."""
    with azure_errors(f"listing the endpoints of {_name(workspace)}"):
        return [_endpoint(session, one) for one in _listed(session, f"{workspace}/onlineEndpoints")]


def _endpoint(session: AzureSession, endpoint: dict[str, Any]) -> Item:
    deployments = _listed(session, f"{endpoint['id']}/deployments")
    costs = [_deployment_cost(one) for one in deployments]
    title, cost = f"endpoint {endpoint['name']}", " + ".join(costs) or "nothing"
    if deployments:
        title += f" with {', '.join('deployment ' + one['name'] for one in deployments)}"
    return Item(endpoint["id"], title, _ENDPOINTS, cost, ours=_is_made(session, endpoint))


def _is_made(session: AzureSession, one: dict[str, Any]) -> bool:
    """Whether an endpoint or a cluster carries our mark, or a name that only the recipe gives."""
    names = derive_names(session.recipe, session.subscription_id)
    return mark_of(one) == MADE or one["name"] in (names.endpoint, names.compute)


def _deployment_cost(deployment: dict[str, Any]) -> str:
    sku = str(deployment["properties"].get("instanceType") or "")
    count = int((deployment.get("sku") or {}).get("capacity") or 1)
    return f"{f'{count} x ' if count > 1 else ''}{sku}, {price_class(sku)} an hour"


def computes_of(session: AzureSession, workspace: str) -> list[Item]:
    """The clusters and machines of the workspace with this id."""
    with azure_errors(f"listing the clusters of {_name(workspace)}"):
        return [_compute(session, one) for one in _listed(session, f"{workspace}/computes")]


def _compute(session: AzureSession, compute: dict[str, Any]) -> Item:
    properties = compute["properties"]
    inner = properties.get("properties") or {}
    attached = properties.get("isAttachedCompute")
    sku = str(inner.get("vmSize") or "")
    nodes = inner.get("currentNodeCount")
    running = f", {nodes} nodes now" if nodes is not None else ""
    cost = f"{sku}, {price_class(sku)} an hour and node{running}" if sku else "nothing of ours"
    # Attached machines are somebody else's: they are let go, not deleted.
    action = {"underlyingResourceAction": "Detach" if attached else "Delete"}
    title = f"{'cluster' if properties.get('computeType') == 'AmlCompute' else 'compute'} "
    title += compute["name"]
    return Item(compute["id"], title, _ENDPOINTS, cost, action, _is_made(session, compute))


def workspace_id(session: AzureSession) -> str:
    """The id of the recipe's workspace, empty where there is none.

    Raises:
        FixableError: It is not ours; Azure cannot be asked.
    """
    with azure_errors(f"reading workspace {session.recipe.azure.workspace}"):
        found = session.arm.find(session.workspace_path(), _versions()[_ML.lower()])
    if found is None:
        return ""
    refuse_foreign(f"workspace {found['name']}", found, "azure.workspace")
    return str(found["id"])


@dataclass(frozen=True)
class Contents:
    """What lies in the group: ours by waves, each to be deleted before the next; what is not ours.

    ``identities`` are our managed identities, ``others`` names for people.
    """

    waves: list[list[Item]]
    others: list[str]
    identities: list[Item]

    @property
    def items(self) -> list[Item]:
        """All that is ours, in order."""
        return [item for wave in self.waves for item in wave]


def contents(session: AzureSession, alone: bool) -> Contents:
    """Everything in the group; ``alone`` when the whole group is of our making.

    Raises:
        FixableError: Azure cannot be asked.
    """
    with azure_errors(f"listing what is in resource group {session.group}"):
        listed = session.arm.list(f"{session.group_id}/resources", GROUPS)
    top = [one for one in listed if one["type"].count("/") == 1]
    ours = [one for one in top if _is_ours(one, alone)]
    spaces = [one for one in ours if one["type"].lower() == _ML.lower()]
    serving = [str(one["id"]) for one in spaces if one.get("kind") != "Hub"]
    owners = [str(one["id"]) for one in spaces if one.get("kind") != "Project"]
    waves = [
        [item for path in serving for item in endpoints_of(session, path)],
        [item for path in owners for item in computes_of(session, path)],
        [_item(one) for one in spaces if one.get("kind") == "Project"],
        [_item(one) for one in spaces if one.get("kind") != "Project"],
        [_item(one) for one in ours if one not in spaces],
    ]
    others = [f"{one['type'].rpartition('/')[2]} {one['name']}" for one in top if one not in ours]
    identities = [_item(one) for one in ours if one["type"].lower().endswith(_IDENTITIES)]
    return Contents(waves, others, identities)


def _is_ours(one: dict[str, Any], alone: bool) -> bool:
    return mark_of(one) == MADE or (alone and one["type"].lower() in _BY_ITSELF)


def _item(one: dict[str, Any]) -> Item:
    kind = one["type"].lower()
    word = str(one.get("kind") or "workspace").lower() if kind == _ML.lower() else kind
    title = _TITLES.get(word, word.rpartition("/")[2])
    version = _versions().get(kind) or _OTHERS.get(kind, GROUPS)
    cost = "$ an hour" if kind.endswith(_CHARGED) else "nothing"
    return Item(one["id"], f"{title} {one['name']}", version, cost, _PARAMS.get(kind, {}))


_TITLES = {
    "default": "workspace",
    "microsoft.storage/storageaccounts": "storage account",
    "microsoft.keyvault/vaults": "key vault",
    "microsoft.containerregistry/registries": "container registry",
    "microsoft.operationalinsights/workspaces": "log workspace",
    "microsoft.insights/components": "application insights",
    "microsoft.managedidentity/userassignedidentities": "managed identity",
}
# For good: else the name stays taken, and the data with it, for two weeks.
_PARAMS = {
    _ML.lower(): {"forceToPurge": "true"},
    "microsoft.operationalinsights/workspaces": {"force": "true"},
}
_OTHERS = {_BY_ITSELF[0]: "2023-01-01", _BY_ITSELF[1]: "2021-04-01"}


def deleted_vault_line(session: AzureSession) -> str:
    """The key vault that was deleted and not purged, for people."""
    name = derive_names(session.recipe, session.subscription_id).key_vault
    return f"deleted key vault {name}, which keeps its name: nothing"


def _versions() -> dict[str, str]:
    return {entry["type"].lower(): entry["apiVersion"] for entry in template()["resources"]}


def _name(path: str) -> str:
    return path.rpartition("/")[2]
