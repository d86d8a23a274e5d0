"""Endpoints, deployments, scoring and connections, driven by azure-ai-ml and requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests
from azure.ai.ml import MLClient
from azure.ai.ml.entities import (
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    Model,
    OnlineRequestSettings,
    ProbeSettings,
)
from azure.core.exceptions import HttpResponseError
from azure.identity import DefaultAzureCredential

from tests.azure.fake import FakeAzure
from tests.azure.fake.contracts import Contracts
from tests.azure.fake.ready import add_workspace
from tests.azure.fake.subscription import SUBSCRIPTION

SIZE = "Standard_NC24ads_A100_v4"
FAMILY = "standardNCADSA100v4Family"


@pytest.fixture
def ml(azure: FakeAzure) -> MLClient:
    """A client of a workspace with the endpoint ``phi`` and a registered model."""
    add_workspace(azure, "ws", "rg")
    ml = MLClient(DefaultAzureCredential(), SUBSCRIPTION, "rg", "ws")
    path = "azureml://datastores/workspaceblobstore/paths/model"
    ml.models.create_or_update(Model(name="phi", version="1", path=path, type="mlflow_model"))
    ml.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="phi")).wait()
    return ml


def deployment(name: str, timeout: int = 90_000, count: int = 1) -> ManagedOnlineDeployment:
    """A deployment as a recipe would have it."""
    probe = ProbeSettings(initial_delay=600, period=100, failure_threshold=30)
    return ManagedOnlineDeployment(
        name=name,
        endpoint_name="phi",
        model="azureml:phi:1",
        instance_type=SIZE,
        instance_count=count,
        request_settings=OnlineRequestSettings(request_timeout_ms=timeout),
        liveness_probe=probe,
        readiness_probe=probe,
    )


def deploy(ml: MLClient, name: str, **given: Any) -> Any:
    """Deploy and wait."""
    return ml.online_deployments.begin_create_or_update(deployment(name, **given)).result()


def set_traffic(ml: MLClient, **shares: int) -> None:
    """Send so many percent to each deployment."""
    endpoint = ml.online_endpoints.get("phi")
    endpoint.traffic = shares
    ml.online_endpoints.begin_create_or_update(endpoint).wait()


def ask(ml: MLClient, question: str, **headers: str) -> requests.Response:
    """A question to the endpoint, with its key."""
    key = ml.online_endpoints.get_keys("phi").primary_key
    uri = ml.online_endpoints.get("phi").scoring_uri
    body = {"input_data": {"input_string": [{"role": "user", "content": question}]}}
    headers = {"Authorization": f"Bearer {key}"} | headers
    return requests.post(uri, json=body, headers=headers, timeout=10)


def test_deployment_answers(azure: FakeAzure, ml: MLClient) -> None:
    assert deploy(ml, "blue").provisioning_state == "Succeeded"
    assert azure.subscription.in_use(FAMILY) == 24
    assert ask(ml, "hello").status_code == 404  # no traffic yet
    set_traffic(ml, blue=100)
    assert ask(ml, "hello").json() == {"output": "blue was asked: hello"}
    azure.answer = lambda name, messages: {"output": f"{len(messages)} turns to {name}"}
    by_name = ask(ml, "hello", **{"azureml-model-deployment": "blue"})
    assert by_name.json() == {"output": "1 turns to blue"}
    assert ask(ml, "x", **{"azureml-model-deployment": "none"}).status_code == 404
    assert ask(ml, "x", Authorization="Bearer wrong").status_code == 401
    assert azure.violations == []


def test_traffic_has_rules(azure: FakeAzure, ml: MLClient) -> None:
    deploy(ml, "blue")
    with pytest.raises(HttpResponseError, match="does not sum"):
        set_traffic(ml, blue=50)
    with pytest.raises(HttpResponseError, match="does not exist"):
        set_traffic(ml, green=100)
    set_traffic(ml, blue=100)
    with pytest.raises(HttpResponseError, match="has traffic"):
        ml.online_deployments.begin_delete("blue", "phi").wait()


def test_deployment_that_fails_has_a_log(azure: FakeAzure, ml: MLClient) -> None:
    log = "loading\nCUDA out of memory\n"
    azure.fail_resource("/deployments/blue$", "Liveness probe failed", "ResourceNotReady", log=log)
    with pytest.raises(HttpResponseError, match="Liveness probe failed"):
        deploy(ml, "blue")
    assert ml.online_deployments.get("blue", "phi").provisioning_state == "Failed"
    assert ml.online_deployments.get_logs("blue", "phi", lines=1) == "CUDA out of memory\n"
    with pytest.raises(HttpResponseError, match="not in Succeeded"):
        set_traffic(ml, blue=100)
    assert deploy(ml, "blue").provisioning_state == "Succeeded"


def test_deployment_needs_quota_and_a_timeout_within_limits(azure: FakeAzure, ml: MLClient) -> None:
    azure.subscription.limits[FAMILY] = 24
    with pytest.raises(HttpResponseError, match=r"0/24\. Additional needed: 48"):
        deploy(ml, "blue", count=2)
    with pytest.raises(HttpResponseError, match="180 seconds"):
        deploy(ml, "blue", timeout=181_000)
    deploy(ml, "blue")
    ml.online_endpoints.begin_delete("phi").wait()
    assert azure.subscription.in_use(FAMILY) == 0


CONNECTION = (
    f"https://management.azure.com/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/"
    "Microsoft.MachineLearningServices/workspaces/ws/connections/phi?api-version=2024-04-01"
)


def call(method: str, url: str, body: Any = None) -> requests.Response:
    """A call of Azure Resource Manager."""
    token = DefaultAzureCredential().get_token("https://management.azure.com/.default").token
    headers = {"Authorization": f"Bearer {token}"}
    return requests.request(method, url, json=body, headers=headers, timeout=10)


def connection(**more: Any) -> dict[str, Any]:
    """A custom-keys connection as Prompt flow reads it."""
    return {
        "properties": {
            "category": "CustomKeys",
            "authType": "CustomKeys",
            "target": "_",
            "isSharedToAll": False,
            "credentials": {"keys": {"key": "secret"}},
            "metadata": {"azureml.flow.connection_type": "Custom"},
            **more,
        }
    }


def test_connection_keeps_its_secret(azure: FakeAzure, tmp_path: Path) -> None:
    add_workspace(azure, "ws", "rg")
    assert call("PUT", CONNECTION, connection()).status_code == 200
    shown = call("GET", CONNECTION)
    assert "secret" not in shown.text
    assert shown.json()["properties"]["category"] == "CustomKeys"
    secrets = call("POST", CONNECTION.replace("?", "/listsecrets?")).json()
    assert secrets["properties"]["credentials"] == {"keys": {"key": "secret"}}
    assert call("PUT", CONNECTION, connection(metadata=None)).status_code == 400


def test_connection_is_held_to_its_contract(azure: FakeAzure, contracts: Contracts) -> None:
    add_workspace(azure, "ws", "rg")
    refused = call("PUT", CONNECTION, connection(colour="red"))
    assert refused.status_code == 400
    assert "properties.colour: not declared" in refused.json()["error"]["message"]
    assert call("PUT", CONNECTION, connection(authType="Keys")).status_code == 400
