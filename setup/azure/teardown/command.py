"""Command ``teardown``: delete what costs, in stages, and prove by reading that nothing is left.

A group that we made goes with what is in it, unless somebody else has put something there. In any
other group only what carries our tag goes, and the rest is listed. The order is the same for both:
endpoints, which cost most, clusters, projects, workspaces, all else. Cut off anywhere, the same
command finishes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Literal, NamedTuple

from setup.azure.client import explain, ownership, waiting
from setup.azure.client.explain import azure_errors
from setup.azure.client.money import agree
from setup.azure.client.names import derive_names
from setup.azure.client.session import AzureSession, signed_in
from setup.azure.facts.prices import hourly, legend
from setup.azure.provision import roles, vault
from setup.azure.provision import template as arm_deployment
from setup.azure.provision.inventory import WORKSPACES, describe
from setup.common import console
from setup.common.errors import FixableError
from setup.common.step import Result
from setup.recipe.azure import AzureRecipe

Stage = Literal["endpoint", "compute", "all"]

SETTLE = 120.0  # seconds: Azure's list of a group lags behind what was deleted
_DELETED_FOR = 3600.0  # seconds: a workspace takes minutes, an endpoint up to ten
_ENDPOINT, _COMPUTE, _PROJECT, _WORKSPACE, _REST, _GROUP = range(6)  # waves, one after the other
_INSIDE = {"endpoint": ("onlineEndpoints", _ENDPOINT), "compute": ("computes", _COMPUTE)}
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


def plan_teardown(recipe: AzureRecipe, stage: Stage = "all") -> list[str]:
    """List what ``teardown`` would delete, with price classes; only reads."""
    lines = signed_in(recipe, lambda session: _lines(session, stage, _look(session, stage)[0]))
    return [*lines, legend()] if lines else [f"nothing of stage {stage} is there"]


def teardown(recipe: AzureRecipe, stage: Stage = "all", yes: bool | None = None) -> Result:
    """Delete one stage, or all of it; nothing is deleted unless the user agrees.

    ``yes`` None is what the command line was told.

    Raises:
        FixableError: The user does not agree; Azure refuses, or something is left.
    """
    return signed_in(recipe, lambda session: _teardown(session, stage, yes))


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
    with suppress(waiting.NotYetError):
        again = partial(_look, session, stage)
        waiting.wait_until(lambda: not again()[0], SETTLE, waiting.PAUSE, "looking again")
    left, others = _look(session, stage)
    command = f"python -m setup {{}} --recipe {session.recipe.name}"
    if left:
        titles = ", ".join(item.title for item in left)
        what = f"still there after it was deleted: {titles}"
        raise FixableError(what, command.format("teardown"))
    detail = f"group {session.group} is not there: nothing billable is left"
    detail = _conclusion(session, stage, others) if there else detail
    next_ = command.format("provision" if stage == "all" else "teardown")
    return Result("teardown", bool(lines), detail + note, next_)


def _conclusion(session: AzureSession, stage: Stage, others: list[str]) -> str:
    group, rest = f"group {session.group}", ", ".join(others)
    if stage != "all":
        where = f"workspace {session.recipe.azure.workspace}"
        rest = f"; not the recipe's, and still there: {rest}" if rest else ""
        return f"no {stage} of recipe {session.recipe.name} is left in {where}{rest}"
    if rest:
        return f"nothing billable of ours is left; {group} stays with what others made: {rest}"
    end = "the group is deleted too"
    if ownership.find_group(session):
        end = "it is not ours and stays"
    return f"{group} is empty: nothing billable is left; {end}"


def _settled(session: AzureSession) -> bool:
    """Wait for what is under way in the group; False where there is none, or none any more."""
    group = ownership.find_group(session)
    if group and ownership.is_going(group):
        find, what = ownership.find_group, f"deleting resource group {session.group}"
        return not waiting.wait_until(lambda: not find(session), _DELETED_FOR, waiting.PAUSE, what)
    if group and arm_deployment.is_running(session):
        console.err.print("a deployment is under way: waiting for its end", markup=False)
        with suppress(arm_deployment.DeploymentError):  # it would make again what is deleted
            arm_deployment.follow(session, {})
    return group is not None


def _lines(session: AzureSession, stage: Stage, items: list[Item]) -> list[str]:
    deleted = vault.deleted_line(session) if stage == "all" else ""
    return [*(item.line() for item in items), *filter(None, [deleted])]


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
        delete_all(session, going)
    if stage == "all":
        note += vault.purge(session, any(item.title.startswith("key vault ") for item in items))
    return note


def delete_all(session: AzureSession, items: list[Item]) -> None:
    """Delete side by side, and wait until it is gone; what is gone already counts as deleted.

    Raises:
        FixableError: Azure refuses one, which keeps none of the others from being deleted, or it
            takes too long.
    """
    refusals: list[FixableError] = []
    pollers = {}
    for item in items:
        with _kept(refusals, item.title):
            begin = partial(session.arm.begin, "DELETE", item.path, None, item.params)
            pollers[item.title] = waiting.when_free(f"deleting {item.title}", begin)
    for title, poller in pollers.items():
        with _kept(refusals, title):
            waiting.follow(f"Deleting {title}", poller, lambda: "gone", _DELETED_FOR)
            console.err.print(f"deleted {title}", markup=False)
    if refusals:
        raise refusals[0]


@contextmanager
def _kept(refusals: list[FixableError], title: str) -> Iterator[None]:
    try:
        with azure_errors(f"deleting {title}"):
            yield
    except FixableError as error:
        if explain.status_of(error) != explain.NOT_FOUND:
            refusals.append(error)


def _look(session: AzureSession, stage: Stage) -> tuple[list[Item], list[str]]:
    """Return what there is to delete, in order, and the rest for people.

    The group itself is to be deleted if we made it and there is no rest.
    """
    doing = f"reading workspace {session.recipe.azure.workspace}"
    workspace = explain.look_for(doing, session.arm.get, session.workspace_path())
    if workspace:  # not ours, it may hold our endpoint: nothing could be promised
        ownership.refuse_foreign(f"workspace {workspace['name']}", workspace, "azure.workspace")
    if stage != "all":
        items = _inside(session, workspace, stage) if workspace else []
        name = getattr(derive_names(session.recipe, session.subscription_id), stage)
        ours = [item for item in items if item.path.endswith(f"/{name}")]
        return ours, [f"{item.title}: {item.cost}" for item in items if item not in ours]
    group, items, others = ownership.find_group(session), [], []
    with azure_errors(f"listing what is in resource group {session.group}"):
        listed = session.arm.children(f"{session.group_id}/resources")
    for resource in listed:
        if ownership.is_ours(resource):
            items += _ours(session, resource)
        else:
            others.append(f"{resource['type'].rpartition('/')[2]} {resource['name']}")
    if group and ownership.is_ours(group) and all(name.startswith(_BY_ITSELF) for name in others):
        title = f"resource group {session.group}, which is of our making"
        items.append(Item(session.group_id, title, "nothing", _GROUP))
        others = []
    return sorted(items, key=lambda item: item.wave), others


def _ours(session: AzureSession, resource: Mapping[str, Any]) -> list[Item]:
    """Return a resource of ours in the group, with what runs in it."""
    kind, word = resource["type"].lower(), resource.get("kind")
    wave = _PROJECT if word == "Project" else _WORKSPACE if kind == WORKSPACES else _REST
    items = [Item(resource["id"], *describe(resource), wave, _PURGED.get(kind, {}))]
    if kind == WORKSPACES:
        items += _inside(session, resource, "endpoint") if word != "Hub" else []
        items += _inside(session, resource, "compute") if word != "Project" else []
    return items


def _inside(session: AzureSession, workspace: Mapping[str, Any], stage: str) -> list[Item]:
    """Return the endpoints or the clusters of a workspace."""
    names, items = derive_names(session.recipe, session.subscription_id), []
    kind, wave = _INSIDE[stage]
    params = {"underlyingResourceAction": "Delete"} if stage == "compute" else {}
    with azure_errors(f"listing what runs in workspace {workspace['name']}"):
        for resource in session.arm.children(f"{workspace['id']}/{kind}"):
            ours = ownership.is_ours(resource) or resource["name"] in (
                names.endpoint,
                names.compute,
            )
            guest = not ours or bool(resource["properties"].get("isAttachedCompute"))
            title, cost = _compute(resource) if params else _endpoint(session, resource)
            items.append(Item(resource["id"], title, cost, wave, params, guest))
    return items


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


def _revoke(session: AzureSession, items: list[Item]) -> str:
    """Take the roles of our identities: they would stay, with nobody to hold them.

    Returns what remains to be said if that is not allowed: it costs nothing, so it stops nothing.
    """
    try:
        with azure_errors("taking the roles of our identities"):
            bodies = [session.arm.find(item.path) or {} for item in items if item.wave > _COMPUTE]
            parts = [body.get(part) or {} for body in bodies for part in ("identity", "properties")]
            principals = {part["principalId"] for part in parts if part.get("principalId")}
            for role in roles.assignments(session) if principals else []:
                inside = f"{role['scope']}/".lower().startswith(f"{session.group_id}/".lower())
                if inside and role["principalId"] in principals:
                    session.arm.begin("DELETE", role["id"])
    except FixableError as error:
        if explain.status_of(error) != explain.FORBIDDEN:
            raise
        return "; the roles of our identities stay: you may not take them"
    return ""
