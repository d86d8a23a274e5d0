"""Cores: what a recipe needs of them, and asking for more of them."""

from __future__ import annotations

import json

import pytest

from setup.azure.client.names import derive_names
from setup.azure.client.session import AzureSession
from setup.azure.facts import quota
from setup.azure.facts.quota import (
    TOTAL,
    Usage,
    demands,
    endpoint_cores,
    region_sizes,
    request_quota,
)
from setup.common.errors import FixableError
from setup.recipe.load import load_azure_recipe
from tests.azure.commands import run_setup
from tests.azure.fake import FakeAzure
from tests.azure.fake.store import Id
from tests.azure.fake.subscription import SUBSCRIPTION
from tests.home import failed

A100 = "standardNCADSA100v4Family"


@pytest.mark.parametrize(
    ("sku", "cores", "instances", "needed"),
    [
        ("Standard_NC24ads_A100_v4", 24, 1, 24),  # exempt from the reserve
        ("Standard_NC24ads_A100_v4", 24, 3, 72),
        ("STANDARD_ND96ISR_H100_V5", 96, 1, 96),
        ("Standard_NC4as_T4_v3", 4, 1, 8),
        ("Standard_DS3_v2", 4, 10, 48),  # Microsoft's own example
        ("Standard_E4s_v3", 4, 5, 24),
    ],
)
def test_endpoint_reserve(sku: str, cores: int, instances: int, needed: int) -> None:
    assert endpoint_cores(sku, cores, instances) == needed


def test_what_is_ours_already_is_not_needed_again(azure: FakeAzure) -> None:
    recipe = load_azure_recipe("phi-azure", [])
    names = derive_names(recipe, SUBSCRIPTION)
    workspace = (
        f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{names.group}/providers"
        f"/Microsoft.MachineLearningServices/workspaces/{names.workspace}"
    )
    endpoint = f"{workspace}/onlineEndpoints/{names.endpoint}"
    body = {
        "location": "eastus2",
        "sku": {"name": "Default", "capacity": 1},
        "properties": {"instanceType": "STANDARD_NC24ADS_A100_V4"},
    }
    for path in (workspace.partition("/providers")[0], workspace, endpoint):
        azure.store.put(Id(path), {"location": "eastus2", "properties": {}})
    azure.store.put(Id(f"{endpoint}/deployments/tuned-3"), body)
    azure.subscription.limits[A100] = 24
    azure.subscription.used["the deployment"] = (A100, 24)
    session = AzureSession(recipe)
    finetune, deployed = demands(session, region_sizes(session))
    assert (deployed.held, deployed.enough) == (24, True)
    assert (finetune.held, finetune.enough, finetune.sufficient_limit) == (0, False, 48)
    assert deployed.sufficient_limit == 48
    azure.store.put(Id(f"{endpoint}/deployments/tuned-blue"), body)
    azure.subscription.used["the deployment"] = (A100, 48)
    _, deployed = demands(session, region_sizes(session))
    assert deployed.sufficient_limit == 48  # there is no third


def test_low_priority_cores_of_the_same_name_do_not_count() -> None:
    """As Azure lists them: the family twice, a workspace's own row, a null, -1 for no limit."""
    kind = "Microsoft.MachineLearningServices/{}/usages"
    rows = [
        ("vmFamily/dedicatedCores", A100, 24, 48, "/locations/eastus2/usages/a"),
        ("vmFamily/lowPriorityCores", A100, 0, -1, "/locations/eastus2/usages/b"),
        ("vmFamily/dedicatedCores", A100, 0, 8, "/workspaces/other/usages/c"),
        ("vmFamily/dedicatedCores", "Standard NCASv3_T4 Family", None, 6, "/usages/d"),
        ("dedicatedCores", "TotalDedicatedCores", 24, 100, "/usages/e"),
        ("lowPriorityCores", "TotalLowPriorityCores", 0, 0, "/usages/f"),
    ]
    usage = Usage(
        {
            "id": path,
            "type": kind.format(part),
            "name": {"value": name},
            "currentValue": used,
            "limit": limit,
        }
        for part, name, used, limit, path in rows
    )
    assert usage.of(A100.upper()) == (24, 48)
    assert usage.of("standardNCASv3_T4Family") == (0, 6)
    assert usage.of("unheard of") == (0, 0)
    assert usage.of(TOTAL) == (24, 100)
    assert Usage([]).of(TOTAL).limit < 0


def test_cores_of_the_region_can_be_what_is_short(azure: FakeAzure) -> None:
    azure.subscription.limits["TotalDedicatedCores"] = 20
    session = AzureSession(load_azure_recipe("phi-azure", []))
    finetune, _ = demands(session, region_sizes(session))
    assert (finetune.family, finetune.enough) == ("TotalDedicatedCores", False)
    assert (finetune.needed, finetune.limit, finetune.sufficient_limit) == (24, 20, 24)


def test_too_few_cores_and_asking_for_more(azure: FakeAzure) -> None:
    azure.subscription.limits[A100] = 0
    done = run_setup("quota")
    assert done.returncode == 1
    assert "needs 24 cores" in done.stdout
    ask = f"next: python -m setup quota --recipe phi-azure --family {A100} --request 24\n"
    assert done.stderr.endswith(ask)
    assert "--yes" in failed(run_setup("quota", "--request", "24"))
    assert azure.writes == []
    done = run_setup("quota", "--request", "24", "--yes")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("quota: granted: 24 cores")
    [put] = azure.writes
    assert put.body["properties"]["limit"] == {"limitObjectType": "LimitValue", "value": 24}
    assert put.body["properties"]["resourceType"] == "dedicated"
    assert not azure.contracts.available or put.contract.startswith("openapi quota")


@pytest.mark.parametrize("answer", ["refused", "ticket"])
def test_refusal_names_the_support_ticket(azure: FakeAzure, answer: str) -> None:
    azure.subscription.quota_answer = answer
    session = AzureSession(load_azure_recipe("phi-azure", []))
    with pytest.raises(FixableError, match="Azure refused 480 cores") as refused:
        request_quota(session, A100, 480)
    assert "support ticket" in refused.value.fix


def test_request_that_a_person_decides_is_not_waited_for(
    azure: FakeAzure, monkeypatch: pytest.MonkeyPatch
) -> None:
    azure.operations.polls = 10_000
    monkeypatch.setattr(quota, "_PATIENCE", 0.2)
    session = AzureSession(load_azure_recipe("phi-azure", []))
    assert "it is being decided" in request_quota(session, A100, 480)


def test_request_needs_one_family(azure: FakeAzure) -> None:
    sets = ("--set", "endpoint.sku=Standard_NC4as_T4_v3", "--request", "8", "--yes")
    assert "which family?" in failed(run_setup("quota", *sets))
    azure.subscription.limits["Standard NCASv3_T4 Family"] = 4
    done = run_setup("quota", *sets, "--json")
    assert json.loads(done.stdout)["family"] == "Standard NCASv3_T4 Family"
