"""A deployment of the managed endpoint as the recipe describes it, and as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from setup.azure.prices import Billable, endpoint_costs
from setup.azure.recipe import AzureRecipe
from setup.azure.version import ModelVersion

if TYPE_CHECKING:
    from azure.ai.ml.entities import ManagedOnlineDeployment

_LONGEST = 32  # https://learn.microsoft.com/azure/machine-learning/how-to-manage-quotas


def deployment_name(prefix: str, version: str) -> str:
    """The deployment that serves a version: ``tuned`` and ``3`` are ``tuned-3``."""
    plain = re.sub("[^a-z0-9]+", "-", version.lower()).strip("-")
    ending = f"-{plain[: _LONGEST // 2].rstrip('-')}"
    return prefix[: _LONGEST - len(ending)].rstrip("-") + ending


def price_of(recipe: AzureRecipe, endpoint: str, deployment: str) -> Billable:
    """What the deployment costs while it exists."""
    what = f"deployment {deployment} of endpoint {endpoint}"
    return replace(endpoint_costs(recipe, endpoint), what=what)


def wanted_deployment(
    recipe: AzureRecipe, name: str, endpoint: str, version: ModelVersion
) -> ManagedOnlineDeployment:
    """The deployment of a model that brings its own environment."""
    from azure.ai.ml import entities  # noqa: PLC0415 - takes seconds

    given = recipe.endpoint
    return entities.ManagedOnlineDeployment(
        name=name,
        endpoint_name=endpoint,
        model=version.id,
        instance_type=given.sku,
        instance_count=given.instances,
        tags=dict(recipe.azure.tags),
        request_settings=entities.OnlineRequestSettings(
            request_timeout_ms=given.request_timeout_ms,
            max_concurrent_requests_per_instance=given.max_concurrent_requests,
        ),
        liveness_probe=entities.ProbeSettings(**given.liveness.model_dump()),
        readiness_probe=entities.ProbeSettings(**given.readiness.model_dump()),
    )


def is_as_wanted(found: ManagedOnlineDeployment, wanted: ManagedOnlineDeployment) -> bool:
    """Whether what the recipe decides is so already; what Azure adds by itself does not count."""
    has, should = _facts(found), _facts(wanted)
    if not wanted.environment:
        has["environment"] = should["environment"]
    variables: Mapping[str, str] = wanted.environment_variables or {}
    return has == should and variables.items() <= (found.environment_variables or {}).items()


def _facts(deployment: ManagedOnlineDeployment) -> dict[str, Any]:
    settings: Any = deployment.request_settings
    return {
        "model": _plain(deployment.model),
        "environment": _plain(deployment.environment),
        "sku": str(deployment.instance_type).lower(),
        "instances": deployment.instance_count,
        "timeout": settings.request_timeout_ms if settings else None,
        "concurrent": settings.max_concurrent_requests_per_instance if settings else None,
        "liveness": vars(deployment.liveness_probe) if deployment.liveness_probe else {},
        "readiness": vars(deployment.readiness_probe) if deployment.readiness_probe else {},
    }


def _plain(id_: Any) -> str:
    """An id without what it is sometimes said with: another case, the scheme of Azure ML."""
    return str(id_ or "").lower().removeprefix("azureml:")
