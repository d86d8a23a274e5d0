"""Rights of the login in the recipe's group, or in the subscription while there is no group."""

from __future__ import annotations

import re
from typing import Any

from setup.azure.client.explain import azure_errors
from setup.azure.client.ownership import find_group
from setup.azure.client.session import AzureSession

# What the path writes, and the least built-in role that may.
_NEEDED = {
    "Microsoft.MachineLearningServices/workspaces/write": "Contributor",
    "Microsoft.Authorization/roleAssignments/write": "Role Based Access Control Administrator",
}
_MAKE_GROUP = "Microsoft.Resources/subscriptions/resourceGroups/write"


def missing_rights(session: AzureSession) -> tuple[dict[str, str], str]:
    """Actions that the login lacks with the role that has them, and the scope that was asked."""
    exists = find_group(session) is not None
    scope = session.group_id if exists else f"/subscriptions/{session.subscription_id}"
    with azure_errors("reading what the login may do"):
        granted = session.arm.list(f"{scope}/providers/Microsoft.Authorization/permissions")
    needed = _NEEDED if exists else {_MAKE_GROUP: "Contributor", **_NEEDED}
    return {action: role for action, role in needed.items() if not _may(granted, action)}, scope


def _may(granted: list[dict[str, Any]], action: str) -> bool:
    """Tell whether one of the roles allows it: a role's exceptions count for that role alone."""
    return any(
        _matches(role.get("actions", []), action)
        and not _matches(role.get("notActions", []), action)
        for role in granted
    )


def _matches(patterns: list[str], action: str) -> bool:
    expressions = (re.escape(pattern).replace(r"\*", ".*") for pattern in patterns)
    return any(re.fullmatch(pattern, action, re.IGNORECASE) for pattern in expressions)
