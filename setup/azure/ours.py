"""What is ours in Azure, told by a tag: nothing without it is changed or deleted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from setup.azure.recipe import AzureRecipe
from setup.azure.session import AzureSession, azure_errors
from setup.errors import FixableError

TAG = "finetune-phi"
MADE = "made"  # by us: a group, a resource
SHARED = "shared"  # a group of somebody who agrees that we put our resources beside theirs
GROUPS = "2021-04-01"
_TAG_IT = "az tag update --operation merge --resource-id {id} --tags {tag}={value}"
_UNAUTHORIZED = 401

T = TypeVar("T")


def tags_of(recipe: AzureRecipe) -> dict[str, str]:
    """The tags of everything we make: the recipe's and our mark."""
    return {**recipe.azure.tags, TAG: MADE}


def mark_of(body: Mapping[str, Any]) -> str:
    """Our mark on a group or resource as Azure describes it, empty where there is none."""
    return str((body.get("tags") or {}).get(TAG, ""))


def find_group(session: AzureSession) -> dict[str, Any] | None:
    """The recipe's resource group, None where there is none.

    Raises:
        FixableError: Azure cannot be asked.
    """
    with azure_errors(f"reading resource group {session.group}"):
        return session.arm.find(session.group_id, GROUPS)


def refuse_deleting(session: AzureSession, group: Mapping[str, Any]) -> None:
    """Raise FixableError if somebody is deleting the group."""
    state = str((group.get("properties") or {}).get("provisioningState"))
    if state.lower() in ("deleting", "deprovisioning"):
        raise FixableError(
            f"resource group {session.group} is being deleted",
            "run the same command again in a few minutes",
        )


def refuse_foreign_group(session: AzureSession, group: Mapping[str, Any]) -> None:
    """Raise FixableError if the group is neither ours nor shared with us."""
    if mark_of(group) not in (MADE, SHARED):
        share = _TAG_IT.format(id=session.group_id, tag=TAG, value=SHARED)
        raise FixableError(
            f"resource group {session.group} is there already and not ours",
            f"--set azure.resource_group=NAME for one of its own; or, to share it: {share}",
        )


def refuse_foreign(title: str, body: Mapping[str, Any], setting: str) -> None:
    """Raise FixableError if the resource that our name leads to is not of our making."""
    if mark_of(body) != MADE:
        give = _TAG_IT.format(id=body.get("id", "ID"), tag=TAG, value=MADE)
        raise FixableError(
            f"{title} is there already and not ours",
            f"--set {setting}=NAME for one of its own; or, to give it to us: {give}",
        )


def signed_in(recipe: AzureRecipe, work: Callable[[AzureSession], T]) -> T:
    """What ``work`` returns, done once more from the start if its token was refused in between.

    A credential gives out the token it has until that itself says it is over; a new session signs
    in anew. ``work`` has to find what it did the first time.
    """
    try:
        return work(AzureSession(recipe))
    except FixableError as error:
        if status_of(error) != _UNAUTHORIZED:
            raise
    return work(AzureSession(recipe))


def status_of(error: BaseException | None) -> int:
    """What Azure answered where ``error`` comes of a refusal: 403 for one; else 0."""
    while error is not None:
        if status := getattr(error, "status_code", None):
            return int(status)
        error = error.__context__
    return 0
