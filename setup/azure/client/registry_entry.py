"""A registry's whole entry of a model.

azure-ai-ml drops the parts that say whether a model is archived or retired. The paths are its own:
``_utils/_registry_utils``, ``_restclient/v2021_10_01_dataplanepreview``.
"""

from __future__ import annotations

from typing import Any

from setup.azure.client.arm import REGISTRY_VERSION
from setup.azure.client.session import AzureSession
from setup.recipe.azure import RegistryAsset

_DISCOVERY = "https://eastus.api.azureml.ms/registrymanagement/v1.0/registries/{}/discovery"


def read_entry(session: AzureSession, asset: RegistryAsset) -> dict[str, Any]:
    """Return the ``properties`` of a model's version: ``isArchived``, ``tags``, system metadata.

    Raises:
        AzureError: Refused, ResourceNotFoundError where there is no such registry or version,
            DecodeError where the answer is not of the shape that it has: no contract keeps it.
    """
    from azure.core.exceptions import DecodeError  # noqa: PLC0415 - slow

    try:
        place = session.arm.ask(_DISCOVERY.format(asset.registry)).json()
        return dict(session.arm.ask(_url(place, asset)).json()["properties"])
    except (KeyError, TypeError, ValueError) as error:
        said = f"its answer has an unknown shape ({type(error).__name__}: {error})"
        raise DecodeError(said) from None


def _url(place: dict[str, Any], asset: RegistryAsset) -> str:
    host = str(place["primaryRegionResourceProviderUri"]).rstrip("/")
    path = (
        f"/subscriptions/{place['subscriptionId']}/resourceGroups/{place['resourceGroup']}"
        f"/providers/Microsoft.MachineLearningServices/registries/{asset.registry}"
        f"/models/{asset.name}/versions/{asset.version}"
    )
    return f"{host}/mferp/managementfrontend{path}?api-version={REGISTRY_VERSION}"
