"""Command ``teardown``: delete what costs, in stages, and prove by reading that nothing is left.

Deleted is only what carries our tag; a workspace in which somebody else runs an endpoint or a
machine is refused, and the group goes only if we made it and nothing else is in it. Cut off, it is
run again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from setup import console
from setup.azure import arm_deployment
from setup.azure.ask import agree
from setup.azure.deletion import delete, delete_group, purge, revoke
from setup.azure.names import derive_names
from setup.azure.ours import MADE, find_group, mark_of, refuse_deleting, signed_in
from setup.azure.prices import legend
from setup.azure.recipe import AzureRecipe
from setup.azure.remnants import (
    Contents,
    Item,
    computes_of,
    contents,
    deleted_vault_line,
    endpoints_of,
    workspace_id,
)
from setup.azure.session import AzureSession
from setup.azure.vault import deleted_vault, is_ours
from setup.errors import FixableError
from setup.step import Result

Stage = Literal["endpoint", "compute", "all"]

SETTLE, PAUSE = 120.0, 5.0  # seconds: Azure's list of a group lags behind what was deleted
_GUEST = " (not ours: teardown refuses while it is there)"
_LISTED = {"endpoint": endpoints_of, "compute": computes_of}


@dataclass(frozen=True)
class _All:
    """What stage ``all`` finds."""

    group: Mapping[str, Any] | None
    contents: Contents
    vault: bool  # deleted, but not purged

    @property
    def made(self) -> bool:
        """Whether the group is of our making."""
        return self.group is not None and mark_of(self.group) == MADE

    @property
    def goes(self) -> bool:
        """Whether the group is deleted too."""
        return self.made and not self.contents.others


def plan_teardown(recipe: AzureRecipe, stage: Stage = "all") -> list[str]:
    """What ``teardown`` would delete, with price classes; only reads.

    Raises:
        FixableError: Azure cannot be asked.
    """
    if stage == "all":
        lines = signed_in(recipe, lambda session: _lines(session, _find(session)))
    else:
        found = signed_in(recipe, lambda session: _of_recipe(session, stage))
        lines = [item.line() for item in found]
    return [*lines, legend()] if lines else [f"nothing of stage {stage} is there"]


def teardown(recipe: AzureRecipe, stage: Stage = "all", yes: bool | None = None) -> Result:
    """Delete one stage, or all of it; nothing is deleted unless the user agrees.

    ``yes`` None is what the command line was told.

    Raises:
        FixableError: The user does not agree; Azure refuses, or something is left.
    """
    if stage == "all":
        return signed_in(recipe, lambda session: _all(session, yes))
    return signed_in(recipe, lambda session: _part(session, stage, yes))


def _of_recipe(session: AzureSession, stage: str) -> list[Item]:
    """The endpoint or the cluster that the recipe names, if there is one."""
    name = getattr(derive_names(session.recipe, session.subscription_id), stage)
    return [item for item in _in_workspace(session, stage) if item.name == name]


def _in_workspace(session: AzureSession, stage: str) -> list[Item]:
    workspace = workspace_id(session)
    return _LISTED[stage](session, workspace) if workspace else []


def _part(session: AzureSession, stage: str, yes: bool | None) -> Result:
    items = _of_recipe(session, stage)
    if items:
        agree("this deletes, for good:", [*(item.line() for item in items), legend()], yes)
        delete(session, items)
        if left := _of_recipe(session, stage):
            raise _left(session, [item.title for item in left])
    detail = f"no {stage} of recipe {session.recipe.name} is left in workspace "
    detail += session.recipe.azure.workspace
    if others := _in_workspace(session, stage):
        detail += f"; not the recipe's, and still there: {'; '.join(map(Item.line, others))}"
    again = f"python -m setup teardown --recipe {session.recipe.name}"
    return Result("teardown", bool(items), detail, again)


def _find(session: AzureSession) -> _All:
    group = find_group(session)
    inside = Contents([], [], [])
    if group:
        refuse_deleting(session, group)
        workspace_id(session)  # not ours, it may hold our endpoint: nothing could be promised
        inside = contents(session, mark_of(group) == MADE)
    deleted = deleted_vault(session)
    return _All(group, inside, deleted is not None and is_ours(session, deleted))


def _refuse_guests(session: AzureSession, found: Contents) -> None:
    """What others run in our workspace would go with it, and nobody would have agreed."""
    guests = [item.line() for item in found.items if not item.ours]
    if guests:
        raise FixableError(
            f"the workspaces in group {session.group} hold what is not ours: {'; '.join(guests)}",
            "have it deleted by whoever made it, then the same command again; --stage endpoint "
            "and --stage compute delete what is the recipe's alone",
        )


def _look_again(session: AzureSession) -> _All:
    deadline = time.monotonic() + SETTLE
    while (after := _find(session)).contents.items and time.monotonic() < deadline:
        time.sleep(PAUSE)
    return after


def _lines(session: AzureSession, found: _All) -> list[str]:
    lines = [item.line() + ("" if item.ours else _GUEST) for item in found.contents.items]
    if found.vault:
        lines.append(deleted_vault_line(session))
    if found.goes:
        lines.append(f"resource group {session.group}, which is of our making: nothing")
    return lines


def _all(session: AzureSession, yes: bool | None) -> Result:
    group = find_group(session)
    if group and arm_deployment.is_running(session):
        _let_end(session)
    found = _find(session)
    _refuse_guests(session, found.contents)
    lines, note = _lines(session, found), ""
    if lines:
        agree("this deletes, for good:", [*lines, legend()], yes)
        for wave in found.contents.waves:
            note += revoke(session, [one for one in found.contents.identities if one in wave])
            delete(session, wave)
    note += purge(session, found.contents.items)
    after = _look_again(session)
    if after.contents.items:
        raise _left(session, [item.title for item in after.contents.items])
    if after.goes:
        delete_group(session)
        if find_group(session) is not None:
            raise _left(session, [f"resource group {session.group}"])
    detail = _conclusion(session, after) + note
    return Result(
        "teardown", bool(lines), detail, f"python -m setup provision --recipe {session.recipe.name}"
    )


def _conclusion(session: AzureSession, after: _All) -> str:
    name, others = session.group, after.contents.others
    if after.group is None:
        return f"group {name} is not there: nothing billable is left"
    if after.goes:
        return f"group {name} is empty: nothing billable is left; the group is deleted too"
    if not others:
        return f"group {name} is empty: nothing billable is left; it is not ours and stays"
    return (
        f"nothing billable of ours is left; group {name} stays with what others made: "
        f"{', '.join(others)}"
    )


def _let_end(session: AzureSession) -> None:
    """Wait for a deployment that goes on: it would make again what is deleted meanwhile."""
    console.err.print("a deployment is under way: waiting for its end", markup=False)
    try:
        arm_deployment.follow(session, {})
    except arm_deployment.DeploymentError:
        return  # what it left is deleted like the rest


def _left(session: AzureSession, titles: list[str]) -> FixableError:
    return FixableError(
        f"still there after it was deleted: {', '.join(titles)}",
        f"python -m setup teardown --recipe {session.recipe.name}",
    )
