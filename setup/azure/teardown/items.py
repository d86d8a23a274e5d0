"""Everything of ours in Azure that can be deleted, by what it is and what it costs: only reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from enum import IntEnum
from typing import Any, Literal, NamedTuple

from setup.azure.client.money import hourly, legend
from setup.azure.client.ownership import is_going, is_ours, refuse_foreign
from setup.azure.client.session import AzureSession
from setup.azure.client.waiting import PAUSE, wait_until
from setup.azure.provision import template as arm_deployment
from setup.azure.provision.inventory import WORKSPACES, describe
from setup.azure.provision.vault import deleted_line
from setup.common import console

Stage = Literal["endpoint", "compute", "all"]

DELETED_FOR = 3600.0  # seconds: a workspace takes minutes, an endpoint up to ten


class Wave(IntEnum):
    """What is deleted together, one after the other."""

    ENDPOINT, COMPUTE, PROJECT, WORKSPACE, REST, GROUP = range(6)


_INSIDE = {"endpoint": ("onlineEndpoints", Wave.ENDPOINT), "compute": ("computes", Wave.COMPUTE)}
# For good: else the name stays taken, and the data with it, for two weeks.
_PURGED = {
    WORKSPACES: {"forceToPurge": "true"},
    "microsoft.operationalinsights/workspaces": {"force": "true"},
}
# Made by Application Insights itself beside a component of ours, without our tag; free.
_BY_ITSELF = ("actionGroups ", "smartDetectorAlertRules ")


class Item(NamedTuple):
    """A resource to delete, unless it is a guest: somebody else's in a workspace of ours."""

    path: str
    title: str
    cost: str
    wave: Wave
    params: Mapping[str, str] = {}
    guest: bool = False

    def line(self) -> str:
        """Describe it for people."""
        note = " (not ours: teardown refuses while it is there)" if self.guest else ""
        return f"{self.title}: {self.cost}{note}"


def settle(session: AzureSession) -> bool:
    """Wait for what is under way in the group; False where there is none, or none any more."""
    group = session.find_group()
    if group and is_going(group):
        what = f"deleting resource group {session.group}"
        wait_until(lambda: not session.find_group(), DELETED_FOR, PAUSE, what)
        return False
    if group and arm_deployment.is_running(session):
        console.err.print("a deployment is under way: waiting for its end", markup=False)
        with suppress(arm_deployment.DeploymentError):  # it would make again what is deleted
            arm_deployment.follow(session, {})
    return group is not None


def find_items(session: AzureSession, stage: Stage) -> tuple[list[Item], list[str]]:
    """Return what there is to delete, in order, and the rest for people.

    The group itself is to be deleted if we made it and there is no rest.
    """
    doing = f"reading workspace {session.recipe.azure.workspace}"
    workspace = session.find(doing, session.workspace_path())
    if workspace:  # not ours, it may hold our endpoint: nothing could be promised
        refuse_foreign(f"workspace {workspace['name']}", workspace, "azure.workspace")
    if stage != "all":
        items = [*_inside(session, workspace, stage)] if workspace else []
        ours = [item for item in items if item.path.endswith(f"/{getattr(session.names, stage)}")]
        return ours, [f"{item.title}: {item.cost}" for item in items if item not in ours]
    group, items, others = session.find_group(), [], []
    with session.errors(f"listing what is in resource group {session.group}"):
        listed = session.arm.children(f"{session.group_id}/resources")
    for resource in listed:
        if is_ours(resource):
            items += _ours(session, resource)
        else:
            others.append(f"{resource['type'].rpartition('/')[2]} {resource['name']}")
    if group and is_ours(group) and all(name.startswith(_BY_ITSELF) for name in others):
        title = f"resource group {session.group}, which is of our making"
        items.append(Item(session.group_id, title, "nothing", Wave.GROUP))
        others = []
    return sorted(items, key=lambda item: item.wave), others


def _ours(session: AzureSession, resource: Mapping[str, Any]) -> Iterator[Item]:
    """Yield a resource of ours in the group, with what runs in it."""
    kind, word = resource["type"].lower(), resource.get("kind")
    wave = Wave.WORKSPACE if kind == WORKSPACES else Wave.REST
    wave = Wave.PROJECT if word == "Project" else wave
    yield Item(resource["id"], *describe(resource), wave, _PURGED.get(kind, {}))
    if kind == WORKSPACES and word != "Hub":
        yield from _inside(session, resource, "endpoint")
    if kind == WORKSPACES and word != "Project":
        yield from _inside(session, resource, "compute")


def _inside(session: AzureSession, workspace: Mapping[str, Any], stage: str) -> Iterator[Item]:
    """Yield the endpoints or the clusters of a workspace."""
    kind, wave = _INSIDE[stage]
    params = {"underlyingResourceAction": "Delete"} if wave == Wave.COMPUTE else {}
    with session.errors(f"listing what runs in workspace {workspace['name']}"):
        for resource in session.arm.children(f"{workspace['id']}/{kind}"):
            named = resource["name"] in (session.names.endpoint, session.names.compute)
            attached = bool(resource["properties"].get("isAttachedCompute"))
            guest = attached or not (named or is_ours(resource))
            title, cost = _compute(resource) if params else _endpoint(session, resource)
            yield Item(resource["id"], title, cost, wave, params, guest)


def _endpoint(session: AzureSession, endpoint: Mapping[str, Any]) -> tuple[str, str]:
    deployments = session.arm.children(f"{endpoint['id']}/deployments")
    names = ", ".join(f"deployment {deployment['name']}" for deployment in deployments)
    skus = [str(deployment["properties"].get("instanceType")) for deployment in deployments]
    counts = [(deployment.get("sku") or {}).get("capacity") for deployment in deployments]
    title = f"endpoint {endpoint['name']}" + (f" with {names}" if names else "")
    return title, " + ".join(map(hourly, skus, counts)) or "nothing"


def _compute(compute: Mapping[str, Any]) -> tuple[str, str]:
    properties = compute["properties"]
    word = "cluster" if properties.get("computeType") == "AmlCompute" else "compute"
    sku = str((properties.get("properties") or {}).get("vmSize") or "")
    return f"{word} {compute['name']}", f"{hourly(sku)} and node" if sku else "nothing of ours"


def describe_items(session: AzureSession, stage: Stage, items: list[Item]) -> list[str]:
    """Describe for people what goes, with the legend of its prices; nothing where nothing does."""
    deleted = deleted_line(session) if stage == "all" else ""
    lines = [*(item.line() for item in items), *filter(None, [deleted])]
    return [*lines, legend()] if lines else []
