"""Templates: the expression language, our own template, and the one inside azure-ai-ml."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from azure.ai.ml import MLClient
from azure.ai.ml.constants._common import LROConfigurations
from azure.ai.ml.entities import AmlCompute, Workspace
from azure.core.exceptions import HttpResponseError
from azure.identity import DefaultAzureCredential
from azure.mgmt.resource.deployments import DeploymentsMgmtClient
from azure.mgmt.resource.resources import ResourceManagementClient

from tests.azure.fake import FakeAzure
from tests.azure.fake.contracts import Contracts
from tests.azure.fake.subscription import SUBSCRIPTION

SETUP = Path(__file__).resolve().parents[2] / "setup"
OURS = SETUP / "azure" / "provision" / "infra" / "main.json"
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg"
IDENTITY = "Microsoft.ManagedIdentity/userAssignedIdentities"


@pytest.fixture
def deployments(azure: FakeAzure) -> Any:
    """The deployments of a group that is there and empty."""
    resources = ResourceManagementClient(DefaultAzureCredential(), SUBSCRIPTION)
    resources.resource_groups.create_or_update("rg", {"location": "eastus2"})
    return DeploymentsMgmtClient(DefaultAzureCredential(), SUBSCRIPTION).deployments


def deploy(deployments: Any, template: dict[str, Any], **parameters: Any) -> Any:
    """Deploy a template as ``main`` and wait; its properties."""
    given = {name: {"value": value} for name, value in parameters.items()}
    properties = {"mode": "Incremental", "template": template, "parameters": given}
    wanted = {"properties": properties}
    return deployments.begin_create_or_update("rg", "main", wanted).result().properties


def template_of(**content: Any) -> dict[str, Any]:
    """A template with the given sections."""
    schema = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"
    return {"$schema": schema, "contentVersion": "1.0.0.0", "resources": [], **content}


def outputs(deployments: Any, expressions: dict[str, str], **content: Any) -> dict[str, Any]:
    """What expressions evaluate to."""
    declared = {name: {"type": "object", "value": text} for name, text in expressions.items()}
    found = deploy(deployments, template_of(outputs=declared, **content)).outputs
    return {name: output["value"] for name, output in found.items()}


def identity(name: str, **more: Any) -> dict[str, Any]:
    """A resource that needs nothing."""
    return {
        "type": IDENTITY,
        "apiVersion": "2024-11-30",
        "name": name,
        "location": "[resourceGroup().location]",
        **more,
    }


def test_functions(deployments: Any) -> None:
    expected: dict[str, tuple[str, Any]] = {
        "quoted": ("[concat('it''s', '-', string(3))]", "it's-3"),
        "format": ("[format('{0}/{1}', 'a', 1)]", "a/1"),
        "branch": ("[if(equals(1, 2), reference('nothing'), createObject('a', 1).a)]", 1),
        "union": ("[union(createObject('a', 1), createObject('b', 2))]", {"a": 1, "b": 2}),
        "index": ("[split('a,b', ',')[1]]", "b"),
        "escaped": ("[[not an expression]", "[not an expression]"),
        "id": ("[resourceId('A.B/c/d', 'x', 'y')]", f"{GROUP}/providers/A.B/c/x/d/y"),
        "role": (
            "[subscriptionResourceId('A.B/c', 'x')]",
            f"/subscriptions/{SUBSCRIPTION}/providers/A.B/c/x",
        ),
        "take": ("[take(toLower('ABCD'), 2)]", "ab"),
        "empty": ("[and(empty(''), not(empty('a')), or(false(), true()))]", True),
        "variable": ("[variables('list')[2]]", "n2"),
        # The GUIDs that Azure makes are version 5 in a namespace of Microsoft's.
        "guid": ("[guid('a', 'b')]", "c7bc5ebd-7ac7-5b8b-8e8f-3c9d8c5cb36b"),
    }
    loop = [{"name": "list", "count": 3, "input": "[format('n{0}', copyIndex('list'))]"}]
    found = outputs(
        deployments, {name: text for name, (text, _) in expected.items()}, variables={"copy": loop}
    )
    assert found.pop("guid") == outputs(deployments, {"guid": "[guid('a', 'b')]"})["guid"]
    del expected["guid"]
    assert found == {name: value for name, (_, value) in expected.items()}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[nothing()]", "'nothing'"),
        ("[parameters('x')]", "'x'"),
        ("[concat('a']", "','"),
        ("[substring('abc', 2, 5)]", "substring"),
        ("[resourceGroup().colour]", "'colour'"),
    ],
)
def test_wrong_expression_is_refused(deployments: Any, text: str, reason: str) -> None:
    with pytest.raises(HttpResponseError, match=reason):
        outputs(deployments, {"x": text})


def test_resources_wait_for_what_they_depend_on(azure: FakeAzure, deployments: Any) -> None:
    second = identity(
        "second",
        tags={"of": "[reference(resourceId('" + IDENTITY + "', 'first')).principalId]"},
        dependsOn=[f"[resourceId('{IDENTITY}', 'first')]"],
    )
    many = identity(
        "[format('n{0}', copyIndex())]",
        copy={"name": "loop", "count": 2},
        tags={"of": "[reference(resourceId('" + IDENTITY + "', 'first')).principalId]"},
        dependsOn=["first"],
    )
    left_out = identity("never", condition="[equals('a', 'b')]")
    done = deploy(deployments, template_of(resources=[second, many, left_out, identity("first")]))
    names = [one.id.rpartition("/")[2] for one in done.output_resources]
    assert names == ["first", "second", "n0", "n1"]
    principal = azure.store.need(f"{GROUP}/providers/{IDENTITY}/first").properties["principalId"]
    made = azure.store.need(f"{GROUP}/providers/{IDENTITY}/n1")
    assert made.body["tags"] == {"of": principal}


def test_parameters_are_checked(deployments: Any) -> None:
    declared = {"a": {"type": "string", "allowedValues": ["x"]}, "b": {"type": "int"}}
    template = template_of(parameters=declared)
    for given, reason in (
        ({"a": "x"}, "'b' is not provided"),
        ({"a": "x", "b": "1"}, "'b' is str, not int"),
        ({"a": "y", "b": 1}, "not of"),
        ({"a": "x", "b": 1, "c": 1}, "not declared"),
    ):
        with pytest.raises(HttpResponseError, match=reason):
            deploy(deployments, template, **given)


def test_failed_resource_stops_the_deployment(azure: FakeAzure, deployments: Any) -> None:
    azure.fail_resource("/second$", "out of identities", code="Exhausted")
    template = template_of(resources=[identity("first"), identity("second", dependsOn=["first"])])
    with pytest.raises(HttpResponseError, match="DeploymentFailed") as caught:
        deploy(deployments, template)
    assert caught.value.error is not None
    details = caught.value.error.details
    assert [detail.code for detail in details] == ["Exhausted"]
    assert azure.store.get(f"{GROUP}/providers/{IDENTITY}/first")
    assert azure.store.get(f"{GROUP}/providers/{IDENTITY}/second") is None
    assert deploy(deployments, template).provisioning_state == "Succeeded"


def test_undeclared_property_is_refused(
    azure: FakeAzure, deployments: Any, contracts: Contracts
) -> None:
    wrong = template_of(resources=[identity("me", properties={"colour": "red"})])
    with pytest.raises(HttpResponseError) as caught:
        deploy(deployments, wrong)
    assert "properties.colour: not declared" in str(caught.value)
    assert azure.store.get(f"{GROUP}/providers/{IDENTITY}/me") is None


def test_our_template_deploys_twice(azure: FakeAzure, deployments: Any) -> None:
    template = json.loads(OURS.read_text(encoding="utf-8"))
    given = {"computeSku": "Standard_NC24ads_A100_v4", "computeName": "gpu"}
    first = deploy(deployments, template, **given)
    before = {resource.id.key for resource in azure.store}
    second = deploy(deployments, template, **given)
    assert first.outputs == second.outputs
    assert {resource.id.key for resource in azure.store} == before
    assert azure.violations == []


def test_workspace_of_the_sdk(
    azure: FakeAzure, deployments: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The template inside azure-ai-ml works, but violates the contracts; ours may not."""
    monkeypatch.setattr(LROConfigurations, "SLEEP_TIME", 0.05)
    azure.strict = False
    ml = MLClient(DefaultAzureCredential(), SUBSCRIPTION, "rg", "ws")
    made = ml.workspaces.begin_create(Workspace(name="ws", location="eastus2")).result()
    assert made.discovery_url == "https://eastus2.api.azureml.ms/discovery"
    kinds = {resource.kind for resource in azure.store}
    assert {"microsoft.keyvault/vaults", "microsoft.storage/storageaccounts"} < kinds
    if azure.contracts.available:
        assert azure.violations
    azure.strict = True
    wanted = AmlCompute(name="gpu", size="Standard_NC24ads_A100_v4", max_instances=1)
    assert ml.compute.begin_create_or_update(wanted).result().provisioning_state == "Succeeded"
    assert ml.compute.get("gpu").size == "Standard_NC24ads_A100_v4"
    ml.compute.begin_delete("gpu").wait()
    assert list(ml.compute.list()) == []
    usages = ml.compute.list_usage(location="eastus2")
    limits = [one.limit for one in usages if one.name["value"] == "standardNCADSA100v4Family"]
    assert limits == [96, -1]  # dedicated and low priority
    sizes = {size.name: size.gpus for size in ml.compute.list_sizes(location="eastus2")}
    assert sizes["Standard_NC24ads_A100_v4"] == 1
    ml.workspaces.begin_delete(
        "ws", delete_dependent_resources=False, permanently_delete=True
    ).wait()
    assert list(ml.workspaces.list()) == []
