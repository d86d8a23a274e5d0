"""The tag that tells what is ours in Azure: nothing without it is changed or deleted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from setup.common.errors import FixableError

TAG = "finetune-phi"
MADE = "made"  # by us: a group, a resource
SHARED = "shared"  # a group of somebody who agrees that we put our resources beside theirs
_AGREE = {MADE: "give it to us", SHARED: "share it"}


def is_ours(body: Mapping[str, Any], mark: str = MADE) -> bool:
    """Tell whether a group or resource, as Azure describes it, carries our mark."""
    return (body.get("tags") or {}).get(TAG) == mark


def is_going(group: Mapping[str, Any]) -> bool:
    """Tell whether somebody is deleting the group."""
    state = str((group.get("properties") or {}).get("provisioningState"))
    return state.lower() in ("deleting", "deprovisioning")


def refuse_group(name: str, group: Mapping[str, Any]) -> None:
    """Raise FixableError if the group is being deleted, or is neither ours nor shared with us."""
    title = f"resource group {name}"
    if is_going(group):
        fix = "run the same command again in a few minutes"
        raise FixableError(f"{title} is being deleted", fix)
    if not is_ours(group, SHARED):
        refuse_foreign(title, group, "azure.resource_group", SHARED)


def refuse_foreign(title: str, body: Mapping[str, Any], setting: str, mark: str = MADE) -> None:
    """Raise FixableError if the resource that our name leads to is not of our making."""
    if not is_ours(body):
        tag_it = f"az tag update --operation merge --resource-id {body.get('id', 'ID')}"
        raise FixableError(
            f"{title} is there already and not ours",
            f"--set {setting}=NAME for one of its own; or, to {_AGREE[mark]}: {tag_it}"
            f" --tags {TAG}={mark}",
        )
