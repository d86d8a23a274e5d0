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
from setup.azure.version import age

if TYPE_CHECKING:
    from azure.ai.ml.entities import ManagedOnlineDeployment

    Deployments = Mapping[str, ManagedOnlineDeployment]

_VERSION = re.compile(r"/models/([^/]+)/versions/([^/]+)$", re.IGNORECASE)


def age_of(deployment: ManagedOnlineDeployment) -> tuple[int, str]:
    """Orders deployments by the version they serve."""
    return age(str(deployment.model).rpartition("/")[2])


def way_back(deployments: Deployments, traffic: Mapping[str, int], than: tuple[int, str]) -> str:
    """The healthy deployment of a version older than ``than`` that a rollback goes back to.

    The one with most traffic, else the newest; empty where there is none.
    """
    older = [
        name
        for name, one in deployments.items()
        if one.provisioning_state == "Succeeded" and age_of(one) < than
    ]
    return max(
        older, key=lambda name: (traffic.get(name, 0), age_of(deployments[name])), default=""
    )


def superseded(recipe: AzureRecipe, deployments: Deployments, version: str) -> list[str]:
    """Which of ``deployments``, none of which takes traffic, go once ``version`` takes it all.

    With ``endpoint.keep_previous`` the way back stays, and what serves a newer version; else none.
    """
    ours = {name: one for name, one in deployments.items() if _is_ours(recipe, name, one)}
    if not recipe.endpoint.keep_previous:
        return sorted(ours)
    kept = way_back(deployments, {}, age(version))
    return sorted(n for n, one in ours.items() if n != kept and age_of(one) < age(version))


def price_as_found(
    recipe: AzureRecipe, endpoint: str, name: str, found: ManagedOnlineDeployment
) -> Billable:
    """What a deployment that is there costs, whatever the recipe says now."""
    sku, count = str(found.instance_type), int(found.instance_count or 1)
    return replace(price_of(recipe, endpoint, name), sku=sku, count=count, price=price_class(sku))


def _is_ours(recipe: AzureRecipe, name: str, found: ManagedOnlineDeployment) -> bool:
    serves = _VERSION.search(str(found.model))
    return (
        serves is not None
        and serves[1].lower() == recipe.registry.model.lower()
        and name == deployment_name(recipe.endpoint.deployment, serves[2])
    )
