"""Command ``teardown``: delete what costs, in stages, and prove by reading that nothing is left.

A group that we made goes with what is in it, unless somebody else has put something there. In any
other group only what carries our tag goes, and the rest is listed. The order is the same for both:
endpoints, which cost most, clusters, projects, workspaces, all else. Cut off anywhere, the same
command finishes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from setup.azure.client import waiting
from setup.azure.client.explain import NOT_FOUND, status_of
from setup.azure.client.money import agree
from setup.azure.client.session import AzureSession, signed_in
from setup.azure.provision import roles, vault
from setup.azure.teardown.items import (
    DELETED_FOR,
    Item,
    Stage,
    Wave,
    describe_items,
    find_items,
    settle,
)
from setup.common import console
from setup.common.errors import FixableError
from setup.common.step import Result

SETTLE = 120.0  # seconds: Azure's list of a group lags behind what was deleted


def plan_teardown(session: AzureSession, stage: Stage = "all") -> list[str]:
    """List what ``teardown`` would delete, with price classes; only reads."""
    lines = signed_in(session, lambda session: _planned(session, stage))
    return lines or [f"nothing of stage {stage} is there"]


def _planned(session: AzureSession, stage: Stage) -> list[str]:
    return describe_items(session, stage, find_items(session, stage)[0])


def teardown(session: AzureSession, stage: Stage = "all", yes: bool | None = None) -> Result:
    """Delete one stage, or all of it; nothing is deleted unless the user agrees.

    ``yes`` None is what the command line was told.
    """
    return signed_in(session, lambda session: _teardown(session, stage, yes))


def _teardown(session: AzureSession, stage: Stage, yes: bool | None) -> Result:
    there = stage != "all" or settle(session)
    items, _ = find_items(session, stage)
    if guests := [f"{item.title}: {item.cost}" for item in items if item.guest]:
        raise FixableError(
            f"the workspaces in group {session.group} hold what is not ours: {'; '.join(guests)}",
            "have it deleted by whoever made it, then the same command again; --stage endpoint "
            "and --stage compute delete what is the recipe's alone",
        )
    if lines := describe_items(session, stage, items):
        agree("this deletes, for good:", lines, yes)
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

    def attempt(title: str, work: Callable[..., Any], *arguments: Any) -> Any:
        try:
            with session.errors(f"deleting {title}"):
                return work(*arguments)
        except FixableError as error:
            if status_of(error) != NOT_FOUND:
                refusals.append(error)

    def begin(item: Item) -> Any:
        delete = partial(session.arm.begin, "DELETE", item.path, None, item.params)
        return waiting.when_free(f"deleting {item.title}", delete)

    def end(title: str, poller: Any) -> None:
        waiting.follow(f"Deleting {title}", poller, lambda: "gone", DELETED_FOR)
        console.err.print(f"deleted {title}", markup=False)

    for title, poller in [(item.title, attempt(item.title, begin, item)) for item in items]:
        if poller:
            attempt(title, end, title, poller)
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
