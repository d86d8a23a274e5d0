"""The fake's core, driven by the real SDKs: sign-in, resources, long-running operations, faults."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from typing import Any

import pytest
import requests
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
    ServiceRequestError,
)
from azure.identity import ClientSecretCredential, DefaultAzureCredential
from azure.mgmt.authorization import AuthorizationManagementClient
from azure.mgmt.msi import ManagedServiceIdentityClient
from azure.mgmt.quota import QuotaMgmtClient
from azure.mgmt.resource.resources import ResourceManagementClient

from tests.azure.fake import FakeAzure
from tests.azure.fake.contracts import Contracts
from tests.azure.fake.subscription import SUBSCRIPTION
from tests.azure.fake.supporting import ROLES

GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg"
ML = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.MachineLearningServices/locations/eastus2"
FAST: dict[str, Any] = {"retry_backoff_factor": 0.01, "retry_total": 3}


@pytest.fixture
def client(azure: FakeAzure) -> ResourceManagementClient:
    """A client of the fake, with its group made."""
    client = ResourceManagementClient(DefaultAzureCredential(), SUBSCRIPTION, **FAST)
    client.resource_groups.create_or_update("rg", {"location": "eastus2"})
    return client


def make_identity(name: str = "me") -> str:
    """A user-assigned identity; its principal."""
    msi = ManagedServiceIdentityClient(DefaultAzureCredential(), SUBSCRIPTION)
    made = msi.user_assigned_identities.create_or_update("rg", name, {"location": "eastus2"})
    return str(made.principal_id)


def test_group_is_made(azure: FakeAzure, client: ResourceManagementClient) -> None:
    assert client.resource_groups.get("RG").location == "eastus2"
    assert [str(request) for request in azure.writes] == [
        f"PUT management.azure.com/subscriptions/{SUBSCRIPTION}/resourcegroups/rg -> 201"
    ]
    assert azure.hosts == {"management.azure.com", "login.microsoftonline.com"}


def test_wrong_secret_is_refused(azure: FakeAzure) -> None:
    credential = ClientSecretCredential(azure.login.tenant, azure.login.client, "wrong")
    with pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
        credential.get_token("https://management.azure.com/.default")


def test_token_of_another_audience_is_refused(azure: FakeAzure) -> None:
    token = DefaultAzureCredential().get_token("https://storage.azure.com/.default").token
    url = f"https://management.azure.com/subscriptions/{SUBSCRIPTION}?api-version=2022-12-01"
    answer = requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=10)
    assert answer.status_code == 401
    assert "audience" in answer.json()["error"]["message"].lower()


def test_unknown_host_is_refused(azure: FakeAzure) -> None:
    with pytest.raises(requests.exceptions.ProxyError):
        requests.get("https://telemetry.example.com/", timeout=10)
    assert azure.refused_hosts == ["telemetry.example.com"]
    assert "telemetry.example.com" in azure.hosts


def test_state_is_seen_by_other_processes(
    azure: FakeAzure, client: ResourceManagementClient
) -> None:
    code = (
        "from azure.identity import DefaultAzureCredential as C\n"
        "from azure.mgmt.resource.resources import ResourceManagementClient as R\n"
        f"print(R(C(), '{SUBSCRIPTION}').resource_groups.get('rg').location)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | azure.env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "eastus2"


def test_missing_parent_is_404(azure: FakeAzure, client: ResourceManagementClient) -> None:
    with pytest.raises(ResourceNotFoundError, match="ResourceGroupNotFound"):
        client.resources.get_by_id(
            f"{GROUP}x/providers/Microsoft.Storage/storageAccounts/a", api_version="2025-06-01"
        )
    body = {"location": "eastus2", "properties": {"computeType": "AmlCompute"}}
    at = f"{GROUP}/providers/Microsoft.MachineLearningServices/workspaces/none/computes/gpu"
    with pytest.raises(ResourceNotFoundError, match="workspaces/none"):
        client.resources.begin_create_or_update_by_id(at, body, api_version="2026-05-01")


def test_long_running_operation_is_polled(
    azure: FakeAzure, client: ResourceManagementClient
) -> None:
    at = f"{GROUP}/providers/Microsoft.OperationalInsights/workspaces/log"
    poller = client.resources.begin_create_or_update_by_id(
        at, {"location": "eastus2", "properties": {}}, api_version="2025-07-01"
    )
    assert azure.store.need(at).properties["provisioningState"] == "Creating"
    assert dict(poller.result().properties or {})["provisioningState"] == "Succeeded"
    assert len(azure.find("GET .*/operations/")) == azure.operations.polls


def test_operation_that_fails_says_why(azure: FakeAzure, client: ResourceManagementClient) -> None:
    azure.fail_resource("/workspaces/log$", "no capacity in eastus2", code="NoCapacity")
    at = f"{GROUP}/providers/Microsoft.OperationalInsights/workspaces/log"
    body = {"location": "eastus2", "properties": {}}
    with pytest.raises(HttpResponseError, match="no capacity in eastus2"):
        client.resources.begin_create_or_update_by_id(at, body, api_version="2025-07-01").result()
    assert azure.store.need(at).properties["provisioningState"] == "Failed"


def test_group_is_deleted_with_all_in_it(
    azure: FakeAzure, client: ResourceManagementClient
) -> None:
    make_identity()
    assert [found.name for found in client.resources.list_by_resource_group("rg")] == ["me"]
    client.resource_groups.begin_delete("rg").wait()
    assert not client.resource_groups.check_existence("rg")
    assert list(azure.store) == []


def test_role_assignment_is_made_once(azure: FakeAzure, client: ResourceManagementClient) -> None:
    roles = AuthorizationManagementClient(DefaultAzureCredential(), SUBSCRIPTION).role_assignments
    role = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/"
    wanted = {
        "properties": {
            "roleDefinitionId": role + ROLES["AcrPull"],
            "principalId": make_identity(),
            "principalType": "ServicePrincipal",
        }
    }
    name = str(uuid.uuid4())
    assert roles.create(GROUP, name, wanted).id == roles.create(GROUP, name, wanted).id
    with pytest.raises(ResourceExistsError, match="RoleAssignmentExists"):
        roles.create(GROUP, str(uuid.uuid4()), wanted)
    assert [one.name for one in roles.list_for_scope(GROUP, filter="atScope()")] == [name]


@pytest.mark.parametrize("how", ["throttled", "unavailable", "dropped"])
def test_fault_that_the_sdk_gets_over(
    azure: FakeAzure, client: ResourceManagementClient, how: str
) -> None:
    fault = azure.fail("GET .*/resourcegroups/rg$", times=2, how=how)
    assert client.resource_groups.get("rg").name == "rg"
    assert fault.met == 2


def test_connection_cut_while_an_operation_runs(
    azure: FakeAzure, client: ResourceManagementClient
) -> None:
    azure.fail("GET .*/operations/", times=2, how="dropped")
    at = f"{GROUP}/providers/Microsoft.OperationalInsights/workspaces/log"
    body = {"location": "eastus2", "properties": {}}
    made = client.resources.begin_create_or_update_by_id(at, body, api_version="2025-07-01")
    assert dict(made.result().properties or {})["provisioningState"] == "Succeeded"


def test_lost_answer_was_carried_out(azure: FakeAzure, client: ResourceManagementClient) -> None:
    once = ResourceManagementClient(DefaultAzureCredential(), SUBSCRIPTION, retry_total=0)
    azure.fail("PUT .*/resourcegroups/two$", how="lost")
    with pytest.raises(ServiceRequestError):
        once.resource_groups.create_or_update("two", {"location": "eastus2"})
    assert client.resource_groups.check_existence("two")


def test_expired_token_is_401_until_a_new_sign_in(
    azure: FakeAzure, client: ResourceManagementClient
) -> None:
    azure.login.expire()
    with pytest.raises(ClientAuthenticationError, match="ExpiredAuthenticationToken"):
        client.resource_groups.get("rg")
    again = ResourceManagementClient(DefaultAzureCredential(), SUBSCRIPTION)
    assert again.resource_groups.get("rg").name == "rg"


def test_quota_is_granted_or_refused(azure: FakeAzure, contracts: Contracts) -> None:
    client = QuotaMgmtClient(DefaultAzureCredential(), SUBSCRIPTION)
    family = "standardNCADSA100v4Family"
    wanted = {
        "properties": {
            "limit": {"limitObjectType": "LimitValue", "value": 120},
            "name": {"value": family},
            "resourceType": "dedicated",
        }
    }
    client.quota.begin_create_or_update(family, ML.lstrip("/"), wanted).result()
    assert azure.subscription.limits[family] == 120
    assert azure.find("PUT .*/quotas/")[0].contract.startswith("openapi quota")
    azure.subscription.quota_answer = "ticket"
    with pytest.raises(HttpResponseError, match="support ticket"):
        client.quota.begin_create_or_update(family, ML.lstrip("/"), wanted).result()
