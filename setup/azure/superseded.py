"""What a roll-out leaves behind: the deployment that a rollback goes back to, and older ones.

They take no traffic and cost by the hour all the same. A deployment counts as ours if it has the
name that we would give it: the recipe's prefix and the version of the recipe's model it serves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from setup.azure.deployment import deployment_name, price_of
from setup.azure.prices import Billable, price_class
from setup.azure.recipe import AzureRecipe
from setup.azure.traffic import live_traffic, previous, rolled_back
from setup.azure.version import age

if TYPE_CHECKING:
    from azure.ai.ml.entities import ManagedOnlineDeployment, OnlineEndpoint

    Deployments = Mapping[str, ManagedOnlineDeployment]

_VERSION = re.compile(r"/models/([^/]+)/versions/([^/]+)$", re.IGNORECASE)


def age_of(deployment: ManagedOnlineDeployment) -> tuple[int, str]:
    """Orders deployments by the version they serve."""
    return age(str(deployment.model).rpartition("/")[2])


def way_back(
    recipe: AzureRecipe,
    found: OnlineEndpoint | None,
    deployments: Deployments,
    than: tuple[int, str],
) -> str:
    """Which of ``deployments`` a rollback from the version ``than`` goes back to, if any.

    The healthy one with most traffic, else the one that had most before, else the newest of ours
    that is older: never one that was rolled back, nor another's that nobody was sent to.
    """
    traffic, last, out = live_traffic(found), previous(found), rolled_back(found)
    answering = [
        name
        for name, one in deployments.items()
        if one.provisioning_state == "Succeeded"
        and name not in out
        and (name in traffic or name == last or (is_ours(recipe, name, one) and age_of(one) < than))
    ]
    return max(
        answering,
        key=lambda name: (traffic.get(name, 0), name == last, age_of(deployments[name])),
        default="",
    )


def superseded(
    recipe: AzureRecipe, found: OnlineEndpoint | None, deployments: Deployments, version: str
) -> list[str]:
    """Which of ``deployments``, those beside it, go once ``version`` takes all traffic.

    With ``endpoint.keep_previous`` the way back stays, and what serves a newer version; else none.
    """
    ours = {name: one for name, one in deployments.items() if is_ours(recipe, name, one)}
    if not recipe.endpoint.keep_previous:
        return sorted(ours)
    kept = way_back(recipe, found, ours, age(version))
    return sorted(n for n, one in ours.items() if n != kept and age_of(one) < age(version))


def price_as_found(
    recipe: AzureRecipe, endpoint: str, name: str, found: ManagedOnlineDeployment
) -> Billable:
    """What a deployment that is there costs, whatever the recipe says now."""
    sku, count = str(found.instance_type), int(found.instance_count or 1)
    return replace(price_of(recipe, endpoint, name), sku=sku, count=count, price=price_class(sku))


def is_ours(recipe: AzureRecipe, name: str, found: ManagedOnlineDeployment) -> bool:
    """Whether a deployment has the name that we would give it."""
    serves = _VERSION.search(str(found.model))
    return (
        serves is not None
        and serves[1].lower() == recipe.registry.model.lower()
        and name == deployment_name(recipe.endpoint.deployment, serves[2])
    )
