"""Command ``teardown``: delete what costs, in stages, and prove by reading that nothing is left.

A group that we made goes with what is in it, unless somebody else has put something there. In any
other group only what carries our tag goes, and the rest is listed. The order is the same for both:
endpoints, which cost most, clusters, projects, workspaces, all else. Cut off anywhere, the same
command finishes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import IntEnum
from functools import partial
from typing import Any, Literal, NamedTuple

from setup.azure.client import explain, money, ownership, waiting
from setup.azure.client.session import AzureSession, signed_in
from setup.azure.deploy import autoscale
from setup.azure.provision import inventory, roles, vault
from setup.azure.provision import template as arm_deployment
from setup.common import console
from setup.common.errors import FixableError
from setup.common.step import Result

Stage = Literal["endpoint", "compute", "all"]

SETTLE = 120.0  # seconds: Azure's list of a group lags behind what was deleted
_DELETED_FOR = 3600.0  # seconds: a workspace takes minutes, an endpoint up to ten


class Wave(IntEnum):
    """Parts that are deleted side by side, one wave after the other."""

    ENDPOINT, COMPUTE, PROJECT, WORKSPACE, REST, GROUP = range(6)


_INSIDE = {"endpoint": ("onlineEndpoints", Wave.ENDPOINT), "compute": ("computes", Wave.COMPUTE)}
# For good: else the name stays taken, and the data with it, for two weeks.
_PURGED = {
    inventory.WORKSPACES: {"forceToPurge": "true"},
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


def plan_teardown(session: AzureSession, stage: Stage = "all") -> list[str]:
    """List what ``teardown`` would delete, with price classes; only reads."""

    def planned(session: AzureSession) -> list[str]:
        return _described(session, stage, find_items(session, stage)[0])

    return signed_in(session, planned) or [f"nothing of stage {stage} is there"]


def teardown(session: AzureSession, stage: Stage = "all", yes: bool | None = None) -> Result:
    """Delete one stage, or all of it; nothing is deleted unless the user agrees.

    ``yes`` None is what the command line was told.
    """
    return signed_in(session, lambda session: _teardown(session, stage, yes))


def _teardown(session: AzureSession, stage: Stage, yes: bool | None) -> Result:
    there = stage != "all" or _settle(session)
    items, _ = find_items(session, stage)
    if guests := [f"{item.title}: {item.cost}" for item in items if item.guest]:
        raise FixableError(
            f"the workspaces in group {session.group} hold what is not ours: {'; '.join(guests)}",
            "have it deleted by whoever made it, then the same command again; --stage endpoint "
            "and --stage compute delete what is the recipe's alone",
        )
    if lines := _described(session, stage, items):
        money.agree("this deletes, for good:", lines, yes)
    note = _delete(session, stage, items)
    with suppress(waiting.NotYetError):
        again = partial(find_items, session, stage)
        waiting.wait_until(lambda: not again()[0], SETTLE, waiting.PAUSE, "looking again")
    left, others = find_items(session, stage)
    command = session.recipe.command
    if left:
        what = f"still there after it was deleted: {', '.join(item.title for item in left)}"
        raise FixableError(what, command("teardown"))
    detail = f"group {session.group} is not there: nothing billable is left"
    detail = _conclusion(session, stage, ", ".join(others)) if there else detail
    next_ = command("provision" if stage == "all" else "teardown")
    return Result("teardown", bool(lines), detail + note, next_)


def _settle(session: AzureSession) -> bool:
    """Wait for what is under way in the group; False where there is none, or none any more."""
    group = session.find_group()
    if group and ownership.is_going(group):
        what = f"deleting resource group {session.group}"
        waiting.wait_until(lambda: not session.find_group(), _DELETED_FOR, waiting.PAUSE, what)
        return False
    if group and arm_deployment.is_running(session):
        console.err.print("a deployment is under way: waiting for its end", markup=False)
        with suppress(arm_deployment.DeploymentError):  # it would make again what is deleted
            arm_deployment.follow(session, {})
    return group is not None


def _described(session: AzureSession, stage: Stage, items: list[Item]) -> list[str]:
    """Describe for people what goes, with the legend of its prices; nothing where nothing does."""
    lines = [item.line() for item in items]
    if stage == "all" and (deleted := vault.deleted_line(session)):
        lines.append(deleted)
    return [*lines, money.legend()] if lines else []


def _conclusion(session: AzureSession, stage: Stage, others: str) -> str:
    if stage != "all":
        where = f"workspace {session.recipe.azure.workspace}"
        others = f"; not the recipe's, and still there: {others}" if others else ""
        return f"no {stage} of recipe {session.recipe.name} is left in {where}{others}"
    group = f"group {session.group}"
    if others:
        return f"nothing billable of ours is left; {group} stays with what others made: {others}"
    end = "it is not ours and stays" if session.find_group() else "the group is deleted too"
    return f"{group} is empty: nothing billable is left; {end}"


def _delete(session: AzureSession, stage: Stage, items: list[Item]) -> str:
    """Delete wave by wave; returns what remains to be said, such as roles that may not be taken."""
    whole, note = any(item.wave == Wave.GROUP for item in items), ""
    for wave in Wave:
        going = [item for item in items if item.wave == wave]
        if wave == Wave.PROJECT and not whole:
            note = _revoke(session, items)
        if wave == Wave.REST and whole:  # most of it goes with the group
            going = [item for item in going if item.params]
        if wave == Wave.GROUP and whole and find_items(session, stage)[1]:
            break  # somebody else has put something there meanwhile
        delete_all(session, going)
    if stage == "all":
        note += vault.purge(session, any(item.title.startswith("key vault ") for item in items))
    return note


def delete_all(session: AzureSession, items: list[Item]) -> None:
    """Delete side by side, and wait until it is gone; what is gone already counts as deleted.

    A refusal of one keeps none of the others from being deleted.
    """
    refusals: list[FixableError] = []

    @contextmanager
    def deleting(title: str) -> Iterator[None]:
        try:
            with session.errors(f"deleting {title}"):
                yield
        except FixableError as error:
            if explain.status_of(error) != explain.NOT_FOUND:
                refusals.append(error)

    begun = []
    for item in items:
        with deleting(item.title):
            delete = partial(session.arm.begin, "DELETE", item.path, None, item.params)
            begun.append((item.title, waiting.when_free(f"deleting {item.title}", delete)))
    for title, poller in begun:
        with deleting(title):
            waiting.follow(f"Deleting {title}", poller, lambda: "gone", _DELETED_FOR)
            console.err.print(f"deleted {title}", markup=False)
    if refusals:
        raise refusals[0]


def _revoke(session: AzureSession, items: list[Item]) -> str:
    """Take the roles of our identities: they would stay, with nobody to hold them.

    Returns what remains to be said if that is not allowed: it costs nothing, so it stops nothing.
    """
    doing = "taking the roles of our identities"
    try:
        with session.errors(doing):
            spaces = [item.path for item in items if item.wave > Wave.COMPUTE]
            bodies = [session.find(doing, path) or {} for path in spaces]
            parts = [body.get(part) or {} for body in bodies for part in ("identity", "properties")]
            principals = {part["principalId"] for part in parts if part.get("principalId")}
            for role in roles.assignments(session) if principals else []:
                inside = f"{role['scope']}/".lower().startswith(f"{session.group_id}/".lower())
                if inside and role["principalId"] in principals:
                    session.arm.begin("DELETE", role["id"])
    except FixableError as error:
        if not session.is_forbidden(error):
            raise
        return "; the roles of our identities stay: you may not take them"
    return ""


def find_items(session: AzureSession, stage: Stage) -> tuple[list[Item], list[str]]:
    """Return what there is to delete, in order, and the rest for people.

    The group itself is to be deleted if we made it and there is no rest.
    """
    doing = f"reading workspace {session.recipe.azure.workspace}"
    workspace = session.find(doing, session.workspace_path())
    existing = session.recipe.azure.existing.workspace
    if workspace and not existing:  # it may hold our endpoint: nothing could be promised
        ownership.refuse_foreign(f"workspace {workspace['name']}", workspace, "azure.workspace")
    if stage != "all":
        items = [*_inside(session, workspace, stage)] if workspace else []
        named = {"endpoint": {session.names.endpoint}, "compute": _clusters(session)}[stage]
        ours = [item for item in items if item.path.rpartition("/")[2] in named and not item.guest]
        if stage == "endpoint":
            ours += _autoscale(session)
        return ours, [f"{item.title}: {item.cost}" for item in items if item not in ours]
    group, items, others = session.find_group(), list[Item](), list[str]()
    if workspace and existing:  # of it, only what the recipe put into it
        items += [part for stage in _INSIDE for part in _inside(session, workspace, stage)]
        items = [item for item in items if not item.guest]
    with session.errors(f"listing what is in resource group {session.group}"):
        listed = session.arm.children(f"{session.group_id}/resources")
    for resource in listed:
        if ownership.is_ours(resource):
            items += _ours(session, resource)
        else:
            others.append(f"{resource['type'].rpartition('/')[2]} {resource['name']}")
    if group and ownership.is_ours(group) and all(rest.startswith(_BY_ITSELF) for rest in others):
        title = f"resource group {session.group}, which is of our making"
        items.append(Item(session.group_id, title, "nothing", Wave.GROUP))
        others = []
    return sorted(items, key=lambda item: item.wave), others


def _clusters(session: AzureSession) -> set[str]:
    """The names of the recipe's clusters: of the one that fine-tunes, and of the one that asks."""
    return {session.names.compute, session.recipe.evaluation.compute.name}


def _autoscale(session: AzureSession) -> Iterator[Item]:
    """Yield what scales deployments of the recipe's endpoint: Azure leaves it when they go."""
    with session.errors("listing the autoscale settings"):
        listed = session.arm.children(f"{session.group_id}/providers/{autoscale.KIND}")
    for setting in listed:
        of = str(setting["properties"].get("targetResourceUri", "")).lower()
        if f"/onlineendpoints/{session.names.endpoint.lower()}/" in of:
            yield Item(setting["id"], f"autoscale {setting['name']}", "nothing", Wave.REST)


def _ours(session: AzureSession, resource: Mapping[str, Any]) -> Iterator[Item]:
    """Yield a resource of ours in the group, with what runs in it."""
    kind, word = resource["type"].lower(), resource.get("kind")
    is_space = kind == inventory.WORKSPACES
    wave = Wave.PROJECT if word == "Project" else Wave.WORKSPACE if is_space else Wave.REST
    yield Item(resource["id"], *inventory.describe(resource), wave, _PURGED.get(kind, {}))
    if is_space and word != "Hub":
        yield from _inside(session, resource, "endpoint")
    if is_space and word != "Project":
        yield from _inside(session, resource, "compute")


def _inside(session: AzureSession, workspace: Mapping[str, Any], stage: str) -> Iterator[Item]:
    """Yield the endpoints or the clusters of a workspace."""
    kind, wave = _INSIDE[stage]
    params = {"underlyingResourceAction": "Delete"} if wave == Wave.COMPUTE else {}
    with session.errors(f"listing what runs in workspace {workspace['name']}"):
        for resource in session.arm.children(f"{workspace['id']}/{kind}"):
            # In a workspace that is not ours a name tells nothing: many call a cluster like that.
            own = not session.recipe.azure.existing.workspace
            named = own and resource["name"] in {session.names.endpoint, *_clusters(session)}
            attached = bool(resource["properties"].get("isAttachedCompute"))
            guest = attached or not (named or ownership.is_ours(resource))
            title, cost = _compute(resource) if params else _endpoint(session, resource)
            yield Item(resource["id"], title, cost, wave, params, guest)


def _endpoint(session: AzureSession, endpoint: Mapping[str, Any]) -> tuple[str, str]:
    deployments = session.arm.children(f"{endpoint['id']}/deployments")
    names = ", ".join(f"deployment {deployment['name']}" for deployment in deployments)
    skus = [str(deployment["properties"].get("instanceType")) for deployment in deployments]
    counts = [(deployment.get("sku") or {}).get("capacity") for deployment in deployments]
    title = f"endpoint {endpoint['name']}" + (f" with {names}" if names else "")
    return title, " + ".join(map(money.hourly, skus, counts)) or "nothing"


def _compute(compute: Mapping[str, Any]) -> tuple[str, str]:
    properties = compute["properties"]
    word = "cluster" if properties.get("computeType") == "AmlCompute" else "compute"
    sku = str((properties.get("properties") or {}).get("vmSize") or "")
    return (
        f"{word} {compute['name']}",
        f"{money.hourly(sku)} and node" if sku else "nothing of ours",
    )
