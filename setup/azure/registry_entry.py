"""What a registry has written down of a model, whole.

azure-ai-ml drops the parts that say whether a model is archived or retired. The paths are its own:
``_utils/_registry_utils``, ``_restclient/v2021_10_01_dataplanepreview``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from setup.azure.arm import SCOPE
from setup.azure.recipe import RegistryAsset
from setup.azure.session import AzureSession

if TYPE_CHECKING:
    from azure.core import PipelineClient

_DISCOVERY = "https://eastus.api.azureml.ms/registrymanagement/v1.0/registries/{}/discovery"
_VERSION = "2021-10-01-dataplanepreview"
_RETRIES: dict[str, Any] = {"retry_total": 3, "retry_backoff_factor": 0.4, "retry_backoff_max": 30}


def read_entry(session: AzureSession, asset: RegistryAsset) -> dict[str, Any]:
    """The ``properties`` of a model's version: ``isArchived``, ``tags``, system metadata.

    Raises:
        AzureError: Refused, ResourceNotFoundError where there is no such registry or version,
            DecodeError where the answer is not of the shape that it has: no contract keeps it.
    """
    from azure.core.exceptions import DecodeError  # noqa: PLC0415 - slow

    client = _client(session)
    try:
        found = _get(client, _DISCOVERY.format(asset.registry))
        return dict(_get(client, _url(found, asset))["properties"])
    except (KeyError, TypeError, ValueError) as error:
        said = f"its answer has an unknown shape ({type(error).__name__}: {error})"
        raise DecodeError(said) from None


def _url(found: dict[str, Any], asset: RegistryAsset) -> str:
    host = str(found["primaryRegionResourceProviderUri"]).rstrip("/")
    place = (
        f"/subscriptions/{found['subscriptionId']}/resourceGroups/{found['resourceGroup']}"
        f"/providers/Microsoft.MachineLearningServices/registries/{asset.registry}"
        f"/models/{asset.name}/versions/{asset.version}"
    )
    return f"{host}/mferp/managementfrontend{place}?api-version={_VERSION}"


def _get(client: PipelineClient[Any, Any], url: str) -> dict[str, Any]:
    from azure.core.exceptions import ResourceNotFoundError  # noqa: PLC0415 - slow
    from azure.core.rest import HttpRequest  # noqa: PLC0415

    response = client.send_request(HttpRequest("GET", url))
    if response.status_code == 404:
        raise ResourceNotFoundError(response=response)
    response.raise_for_status()
    content: dict[str, Any] = response.json()
    return content


def _client(session: AzureSession) -> PipelineClient[Any, Any]:
    from azure.core import PipelineClient  # noqa: PLC0415 - slow
    from azure.core.pipeline import policies  # noqa: PLC0415

    return PipelineClient(
        "https://eastus.api.azureml.ms",
        policies=[
            policies.UserAgentPolicy("finetune-phi"),
            policies.ProxyPolicy(),
            policies.RetryPolicy(**_RETRIES),
            policies.BearerTokenCredentialPolicy(session.credential, SCOPE),
        ],
    )
