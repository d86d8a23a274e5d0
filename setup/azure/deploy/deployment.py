"""A deployment of the managed endpoint as the recipe describes it, and as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from setup.azure.client import money
from setup.azure.deploy.registration import ModelVersion
from setup.recipe.azure import AzureRecipe

if TYPE_CHECKING:
    from azure.ai.ml.entities import DataCollector, ManagedOnlineDeployment

_LONGEST = 32  # https://learn.microsoft.com/azure/machine-learning/how-to-manage-quotas
_SLOTS = ("blue", "green")
# The names that Azure keeps for what is sent and answered, as it is.
_PAYLOADS = ("request", "response")


def slot_names(recipe: AzureRecipe) -> list[str]:
    """Return the names of the two deployments of ours, such as ``tuned-blue``."""
    return [_with_ending(recipe, slot) for slot in _SLOTS]


def versioned_name(recipe: AzureRecipe, version: str) -> str:
    """Return the name that the deployment of a version once had, such as ``tuned-3``."""
    plain = re.sub("[^a-z0-9]+", "-", version.lower()).strip("-")
    return _with_ending(recipe, plain[: _LONGEST // 2].rstrip("-"))


def _with_ending(recipe: AzureRecipe, ending: str) -> str:
    prefix = recipe.endpoint.deployment[: _LONGEST - 1 - len(ending)].rstrip("-")
    return f"{prefix}-{ending}"


def price_of(
    recipe: AzureRecipe, endpoint: str, name: str, deployment: ManagedOnlineDeployment | None = None
) -> money.Billable:
    """Return what a deployment costs: as the recipe has it, or one that is there as it is."""
    price = replace(
        money.endpoint_costs(recipe, endpoint), what=f"deployment {name} of endpoint {endpoint}"
    )
    if deployment is None:
        return price
    sku, count = str(deployment.instance_type), int(deployment.instance_count or 1)
    if recipe.endpoint.scale and name in slot_names(recipe):
        count = max(count, recipe.endpoint.most_instances)
    return replace(price, sku=sku, count=count, price=money.price_class(sku))


def describe_deployment(
    recipe: AzureRecipe, name: str, endpoint: str, version: ModelVersion
) -> ManagedOnlineDeployment:
    """Return the deployment of a model that brings its own environment, as the recipe has it."""
    from azure.ai.ml import entities

    settings = recipe.endpoint
    return entities.ManagedOnlineDeployment(
        name=name,
        endpoint_name=endpoint,
        model=version.id,
        instance_type=settings.sku,
        instance_count=settings.instances,
        tags=dict(recipe.azure.tags),
        request_settings=entities.OnlineRequestSettings(
            request_timeout_ms=settings.request_timeout_ms,
            max_concurrent_requests_per_instance=settings.max_concurrent_requests,
        ),
        liveness_probe=entities.ProbeSettings(**settings.liveness.model_dump()),
        readiness_probe=entities.ProbeSettings(**settings.readiness.model_dump()),
        data_collector=_collector(recipe),
    )


def _collector(recipe: AzureRecipe) -> DataCollector | None:
    """Return the data collector, None where nothing is to be kept."""
    from azure.ai.ml import entities

    settings = recipe.endpoint.data_collector
    if not settings.enabled:
        return None
    collections = {name: entities.DeploymentCollection(enabled="true") for name in _PAYLOADS}
    return entities.DataCollector(
        collections=collections,
        rolling_rate=settings.rolling_rate.capitalize(),  # as the contract writes it
        sampling_rate=settings.sampling_rate,
    )


def collected_in(endpoint: str, name: str) -> str:
    """Return the folder of what is collected of a deployment."""
    return f"azureml://datastores/workspaceblobstore/paths/modelDataCollector/{endpoint}/{name}"


def is_as_described(
    deployment: ManagedOnlineDeployment, description: ManagedOnlineDeployment
) -> bool:
    """Tell whether what the recipe decides is so; what Azure adds by itself does not count."""
    has, should = _facts(deployment), _facts(description)
    if not description.environment:
        has["environment"] = should["environment"]
    variables: Mapping[str, str] = description.environment_variables or {}
    return has == should and variables.items() <= (deployment.environment_variables or {}).items()


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
        "collected": _collected(deployment.data_collector),
    }


def _collected(collector: DataCollector | None) -> dict[str, Any]:
    collections = collector.collections if collector else {}
    names = [name for name, collection in collections.items() if collection.enabled == "true"]
    if collector is None or not names:
        return {}
    rolling, rate = str(collector.rolling_rate).lower(), collector.sampling_rate
    return {"names": sorted(names), "rolling": rolling, "rate": rate}


def _plain(id_: Any) -> str:
    """Return an id without what it is sometimes said with: another case, the scheme of Azure ML."""
    return str(id_ or "").lower().removeprefix("azureml:")
