"""Command ``teardown``: delete what costs, in stages, and prove by reading that nothing is left.

A group that we made goes with what is in it, unless somebody else has put something there. In any
other group only what carries our tag goes, and the rest is listed. The order is the same for both:
endpoints, which cost most, clusters, projects, workspaces, all else. Cut off anywhere, the same
command finishes.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Literal, NamedTuple

from setup.azure.client.explain import FORBIDDEN, azure_errors, status_of
from setup.azure.client.money import agree
from setup.azure.client.names import derive_names
from setup.azure.client.ownership import MADE, find_group, is_going, mark_of, refuse_foreign
from setup.azure.client.session import AzureSession, signed_in
from setup.azure.client.waiting import DELETED_FOR, PAUSE, NotYetError, delete_all, wait_until
from setup.azure.facts.prices import hourly, legend
from setup.azure.provision import template as arm_deployment
from setup.azure.provision.inventory import WORKSPACES, describe
from setup.azure.provision.vault import deleted_line, purge
from setup.common import console
from setup.common.errors import FixableError
from setup.common.step import Result

Stage = Literal["endpoint", "compute", "all"]

SETTLE = 120.0  # seconds: Azure's list of a group lags behind what was deleted
_ENDPOINT, _COMPUTE, _PROJECT, _WORKSPACE, _REST, _GROUP = range(6)  # waves, one after the other
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
    wave: int
    params: Mapping[str, str] = {}
    guest: bool = False

    def line(self) -> str:
        """Describe it for people."""
        note = " (not ours: teardown refuses while it is there)" if self.guest else ""
        return f"{self.title}: {self.cost}{note}"


def plan_teardown(session: AzureSession, stage: Stage = "all") -> list[str]:
    """List what ``teardown`` would delete, with price classes; only reads.

    Raises:
        FixableError: Azure cannot be asked.
    """
    lines = signed_in(session, lambda session: _lines(session, stage, _look(session, stage)[0]))
    return [*lines, legend()] if lines else [f"nothing of stage {stage} is there"]


def teardown(session: AzureSession, stage: Stage = "all", yes: bool | None = None) -> Result:
    """Delete one stage, or all of it; nothing is deleted unless the user agrees.

    ``yes`` None is what the command line was told.

    Raises:
        FixableError: The user does not agree; Azure refuses, or something is left.
    """
    return signed_in(session, lambda session: _teardown(session, stage, yes))


def _teardown(session: AzureSession, stage: Stage, yes: bool | None) -> Result:
    there = stage != "all" or _settled(session)
    items, _ = _look(session, stage)
    if guests := [f"{item.title}: {item.cost}" for item in items if item.guest]:
        raise FixableError(
            f"the workspaces in group {session.group} hold what is not ours: {'; '.join(guests)}",
            "have it deleted by whoever made it, then the same command again; --stage endpoint "
            "and --stage compute delete what is the recipe's alone",
        )
    if lines := _lines(session, stage, items):
        agree("this deletes, for good:", [*lines, legend()], yes)
    note = _delete(session, stage, items)
    with suppress(NotYetError):
        wait_until(lambda: not _look(session, stage)[0], SETTLE, PAUSE, "looking again")
    left, others = _look(session, stage)
    command = session.recipe.command
    if left:
        titles = ", ".join(item.title for item in left)
        what = f"still there after it was deleted: {titles}"
        raise FixableError(what, command("teardown"))
    detail = f"group {session.group} is not there: nothing billable is left"
    detail = _conclusion(session, stage, others) if there else detail
    next_ = command("provision" if stage == "all" else "teardown")
    return Result("teardown", bool(lines), detail + note, next_)


def _conclusion(session: AzureSession, stage: Stage, others: list[str]) -> str:
    group, rest = f"group {session.group}", ", ".join(others)
    if stage != "all":
        where = f"workspace {session.recipe.azure.workspace}"
        rest = f"; not the recipe's, and still there: {rest}" if rest else ""
        return f"no {stage} of recipe {session.recipe.name} is left in {where}{rest}"
    if rest:
        return f"nothing billable of ours is left; {group} stays with what others made: {rest}"
    end = "it is not ours and stays" if find_group(session) else "the group is deleted too"
    return f"{group} is empty: nothing billable is left; {end}"


def _settled(session: AzureSession) -> bool:
    """Wait for what is under way in the group; False where there is none, or none any more."""
    group = find_group(session)
    if group and is_going(group):
        what = f"deleting resource group {session.group}"
        return not wait_until(lambda: not find_group(session), DELETED_FOR, PAUSE, what)
    if group and arm_deployment.is_running(session):
        console.err.print("a deployment is under way: waiting for its end", markup=False)
        with suppress(arm_deployment.DeploymentError):  # it would make again what is deleted
            arm_deployment.follow(session, {})
    return group is not None


def _lines(session: AzureSession, stage: Stage, items: list[Item]) -> list[str]:
    vault = deleted_line(session) if stage == "all" else ""
    return [*(item.line() for item in items), *filter(None, [vault])]


def _delete(session: AzureSession, stage: Stage, items: list[Item]) -> str:
    """Delete wave by wave; returns what remains to be said, such as roles that may not be taken."""
    whole, note = any(item.wave == _GROUP for item in items), ""
    for wave in range(_GROUP + 1):
        if wave == _PROJECT and not whole:
            note = _revoke(session, items)
        if wave == _GROUP and whole and _look(session, stage)[1]:
            break  # somebody else has put something there meanwhile
        going = [item for item in items if item.wave == wave]
        if wave == _REST and whole:  # most of it goes with the group
            going = [item for item in going if item.params]
        delete_all({i.title: partial(session.arm.delete, i.path, **i.params) for i in going})
    if stage == "all":
        note += purge(session, any(item.title.startswith("key vault ") for item in items))
    return note


def _look(session: AzureSession, stage: Stage) -> tuple[list[Item], list[str]]:
    """Return what there is to delete, in order, and the rest for people.

    The group itself is to be deleted if we made it and there is no rest.
    """
    with azure_errors(f"reading workspace {session.recipe.azure.workspace}"):
        workspace = session.arm.find(session.workspace_path())
    if workspace:  # not ours, it may hold our endpoint: nothing could be promised
        refuse_foreign(f"workspace {workspace['name']}", workspace, "azure.workspace")
    if stage != "all":
        items = _inside(session, workspace, stage) if workspace else []
        name = getattr(derive_names(session.recipe, session.subscription_id), stage)
        ours = [item for item in items if item.path.endswith(f"/{name}")]
        return ours, [f"{item.title}: {item.cost}" for item in items if item not in ours]
    group, items, others = find_group(session), [], []
    with azure_errors(f"listing what is in resource group {session.group}"):
        listed = session.arm.children(f"{session.group_id}/resources")
    for resource in listed:
        if mark_of(resource) == MADE:
            items += _ours(session, resource)
        else:
            others.append(f"{resource['type'].rpartition('/')[2]} {resource['name']}")
    if group and mark_of(group) == MADE and all(name.startswith(_BY_ITSELF) for name in others):
        title = f"resource group {session.group}, which is of our making"
        items.append(Item(session.group_id, title, "nothing", _GROUP))
        others = []
    return sorted(items, key=lambda item: item.wave), others


def _ours(session: AzureSession, resource: Mapping[str, Any]) -> list[Item]:
    """Return a resource of ours in the group, with what runs in it."""
    kind, word = resource["type"].lower(), resource.get("kind")
    params = _PURGED.get(kind, {})
    wave = _PROJECT if word == "Project" else _WORKSPACE if kind == WORKSPACES else _REST
    items = [Item(resource["id"], *describe(resource), wave, params)]
    if kind == WORKSPACES:
        items += _inside(session, resource, "endpoint") if word != "Hub" else []
        items += _inside(session, resource, "compute") if word != "Project" else []
    return items


def _inside(session: AzureSession, workspace: Mapping[str, Any], stage: str) -> list[Item]:
    """Return the endpoints or the clusters of a workspace."""
    names, items = derive_names(session.recipe, session.subscription_id), []
    kind, wave, query, describe_ = _INSIDE[stage]
    with azure_errors(f"listing what runs in workspace {workspace['name']}"):
        for resource in session.arm.children(f"{workspace['id']}/{kind}"):
            ours = mark_of(resource) == MADE or resource["name"] in (names.endpoint, names.compute)
            guest = not ours or bool(resource["properties"].get("isAttachedCompute"))
            items.append(Item(resource["id"], *describe_(session, resource), wave, query, guest))
    return items


def _endpoint(session: AzureSession, endpoint: Mapping[str, Any]) -> tuple[str, str]:
    deployments = session.arm.children(f"{endpoint['id']}/deployments")
    names = ", ".join(f"deployment {deployment['name']}" for deployment in deployments)
    costs = [
        hourly(
            str(deployment["properties"].get("instanceType")),
            (deployment.get("sku") or {}).get("capacity"),
        )
        for deployment in deployments
    ]
    title = f"endpoint {endpoint['name']}" + (f" with {names}" if names else "")
    return title, " + ".join(costs) or "nothing"


def _compute(_: AzureSession, compute: Mapping[str, Any]) -> tuple[str, str]:
    properties = compute["properties"]
    word = "cluster" if properties.get("computeType") == "AmlCompute" else "compute"
    sku = str((properties.get("properties") or {}).get("vmSize") or "")
    return f"{word} {compute['name']}", f"{hourly(sku)} and node" if sku else "nothing of ours"


_INSIDE = {
    "endpoint": ("onlineEndpoints", _ENDPOINT, {}, _endpoint),
    "compute": ("computes", _COMPUTE, {"underlyingResourceAction": "Delete"}, _compute),
}


def _revoke(session: AzureSession, items: list[Item]) -> str:
    """Take the roles of our identities: they would stay, with nobody to hold them.

    Returns what remains to be said if that is not allowed: it costs nothing, so it stops nothing.
    """
    try:
        with azure_errors("taking the roles of our identities"):
            bodies = [session.arm.find(item.path) or {} for item in items if item.wave > _COMPUTE]
            parts = [body.get(part) or {} for body in bodies for part in ("identity", "properties")]
            principals = {part["principalId"] for part in parts if part.get("principalId")}
            roles = session.authorization.role_assignments
            for role in list(roles.list_for_scope(session.group_id)) if principals else []:
                inside = f"{role.scope}/".lower().startswith(f"{session.group_id}/".lower())
                if inside and role.principal_id in principals:
                    roles.delete_by_id(str(role.id))
    except FixableError as error:
        if status_of(error) != FORBIDDEN:
            raise
        return "; the roles of our identities stay: you may not take them"
    return ""
