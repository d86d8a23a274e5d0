"""Command ``teardown``: delete what costs, in stages, and prove by reading that nothing is left.

Deleted is only what carries our tag, or lies in a workspace that does; the group itself only if we
made it and nothing of anybody else's is in it. Cut off, it is run again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from setup import console
from setup.azure import arm_deployment
from setup.azure.ask import agree
from setup.azure.deletion import delete, delete_group, purge, revoke
from setup.azure.names import derive_names
from setup.azure.ours import MADE, find_group, mark_of, signed_in
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
from setup.azure.vault import deleted_vault, in_group
from setup.errors import FixableError
from setup.step import Result

Stage = Literal["endpoint", "compute", "all"]


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
        lines = [item.line() for item in signed_in(recipe, _PARTS[stage])]
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


def _endpoint_items(session: AzureSession) -> list[Item]:
    workspace = workspace_id(session)
    name = derive_names(session.recipe, session.subscription_id).endpoint
    return endpoints_of(session, workspace, name) if workspace else []


def _compute_items(session: AzureSession) -> list[Item]:
    workspace = workspace_id(session)
    name = session.recipe.finetune.compute.name
    return computes_of(session, workspace, name) if workspace else []


_PARTS: dict[str, Callable[[AzureSession], list[Item]]] = {
    "endpoint": _endpoint_items,
    "compute": _compute_items,
}


def _part(session: AzureSession, stage: str, yes: bool | None) -> Result:
    items = _PARTS[stage](session)
    if items:
        agree("this deletes, for good:", [*(item.line() for item in items), legend()], yes)
        delete(session, items)
        if left := _PARTS[stage](session):
            raise _left(session, [item.title for item in left])
    detail = f"no {stage} of recipe {session.recipe.name} is left in workspace "
    detail += session.recipe.azure.workspace
    again = f"python -m setup teardown --recipe {session.recipe.name}"
    return Result("teardown", bool(items), detail, again)


def _find(session: AzureSession) -> _All:
    group = find_group(session)
    alone = group is not None and mark_of(group) == MADE
    inside = contents(session, alone) if group else Contents([], [], [])
    path = deleted_vault(session)
    return _All(group, inside, bool(path) and in_group(session, path))


def _lines(session: AzureSession, found: _All) -> list[str]:
    lines = [item.line() for item in found.contents.items]
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
    lines = _lines(session, found)
    if lines:
        agree("this deletes, for good:", [*lines, legend()], yes)
        revoke(session, found.contents.identities)
        for wave in found.contents.waves:
            delete(session, wave)
    note = purge(session)
    after = _find(session)
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
