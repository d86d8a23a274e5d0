"""The step ``deploy`` in Azure: endpoint, rollout, canary, rollback."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from setup.azure.client.money import answered
from setup.azure.client.session import AzureSession
from setup.azure.deploy import step as deploy
from setup.azure.deploy.deployment import slot_names, versioned_name
from setup.azure.deploy.online_endpoint import ManagedEndpoint
from setup.azure.deploy.traffic import share_traffic
from setup.common.errors import FixableError
from setup.recipe.azure import AzureRecipe
from tests.azure.fake import FakeAzure
from tests.azure.fake.messages import AzureError
from tests.azure.serving import (
    deployments_of,
    endpoint_of,
    endpoint_with,
    fails,
    make_workspace,
    register,
    traffic_of,
    workspace_id,
    writes,
)


def test_model_is_deployed_once(azure: FakeAzure, recipe: AzureRecipe, home: Path) -> None:
    planned = "\n".join(deploy.plan(AzureSession(recipe)))
    assert azure.writes == []
    for said in ("make endpoint", "make deployment tuned-blue", "tuned-blue 100 %", "$$$ an hour"):
        assert said in planned
    result = deploy.run(AzureSession(recipe))
    assert result.changed
    assert "takes 100 %" in result.detail
    assert "python -m setup teardown --recipe phi-azure" in result.detail
    assert result.next.startswith("python -m setup connect --recipe phi-azure")
    name = endpoint_of(azure).id.name
    assert writes(azure) == [f"PUT {name}", "PUT tuned-blue", f"PUT {name}"]
    assert azure.violations == []
    assert all(one.contract for one in azure.writes) or not azure.contracts.available
    azure.clear()
    assert not deploy.run(AzureSession(recipe)).changed
    assert azure.writes == []
    assert azure.find("/score")  # that it is there does not prove that it still answers
    assert "keep deployment tuned-blue" in "\n".join(deploy.plan(AzureSession(recipe)))
    key = endpoint_of(azure).hidden["primaryKey"]
    kept = [path for path in home.rglob("*") if path.is_file()]
    assert not any(key.encode() in path.read_bytes() for path in kept)


def test_what_azure_is_told(azure: FakeAzure, recipe: AzureRecipe) -> None:
    deploy.run(AzureSession(recipe))
    endpoint, tuned = endpoint_of(azure), deployments_of(azure)["tuned-blue"]
    assert endpoint.properties["authMode"].lower() == "key"
    assert endpoint.properties["publicNetworkAccess"].lower() == "enabled"
    assert endpoint.body["tags"] == {**recipe.azure.tags, "finetune-phi": "made"}
    (identity,) = endpoint.body["identity"]["userAssignedIdentities"]
    assert identity.endswith("/phi-workspace-identity")
    given = tuned.properties
    assert given["model"].endswith("/models/phi-azure/versions/1")
    assert (given["instanceType"], tuned.body["sku"]["capacity"]) == (recipe.endpoint.sku, 1)
    asked = given["requestSettings"]
    assert (asked["requestTimeout"], asked["maxConcurrentRequestsPerInstance"]) == ("PT3M", 8)
    for probe in (given["livenessProbe"], given["readinessProbe"]):
        assert (probe["initialDelay"], probe["period"]) == ("PT10M", "PT1M40S")
        assert probe["failureThreshold"] == 30


def test_new_version_is_asked_before_it_gets_traffic(azure: FakeAzure) -> None:
    recipe = make_workspace(azure, "endpoint.canary=10")
    deploy.run(AzureSession(recipe))
    assert traffic_of(azure) == {"tuned-blue": 100}  # nobody to share it with
    register(azure, recipe, "9")
    register(azure, recipe, "10")
    azure.clear()
    assert (
        "version 10 of phi-azure is deployment tuned-green"
        in deploy.run(AzureSession(recipe)).detail
    )
    assert traffic_of(azure) == {"tuned-blue": 90, "tuned-green": 10}
    asked = {one.headers["azureml-model-deployment"] for one in azure.find("POST .*/score")}
    assert asked == {"tuned-green"}
    order = [one.line for one in azure.requests if re.search("/score|PUT", one.line)]
    assert [line.rpartition("/")[2] for line in order[:2]] == ["tuned-green", "score"]
    azure.clear()
    assert not deploy.run(AzureSession(recipe)).changed
    assert azure.writes == []
    detail = deploy.run(AzureSession(endpoint_with(recipe, canary=100))).detail
    assert traffic_of(azure) == {"tuned-green": 100}
    assert "tuned-blue (version 1) takes 0 %, is there for a rollback and is billed until" in detail
    assert f"{recipe.command('deploy')} --set endpoint.keep_previous=false" in detail
    azure.clear()
    assert deploy.rollback(AzureSession(recipe)).changed
    assert traffic_of(azure) == {"tuned-blue": 100}
    azure.clear()
    assert "was rolled back" in deploy.run(AzureSession(recipe)).detail
    assert azure.writes == []
    assert set(deployments_of(azure)) == {"tuned-blue", "tuned-green"}
    with pytest.raises(FixableError, match="no healthy deployment older than tuned-blue"):
        deploy.rollback(AzureSession(recipe))
    endpoint_of(azure).properties["traffic"] = {"tuned-green": 100}  # by hand
    assert "rolled back" not in deploy.run(AzureSession(recipe)).detail


def test_nothing_is_made_unasked(azure: FakeAzure, recipe: AzureRecipe) -> None:
    with answered(False), pytest.raises(FixableError, match="--yes") as caught:
        deploy.run(AzureSession(recipe))
    assert "Standard_NC24ads_A100_v4, $$$ an hour" in caught.value.what
    assert azure.writes == []


def test_changed_settings_change_the_deployment(azure: FakeAzure, recipe: AzureRecipe) -> None:
    deploy.run(AzureSession(recipe))
    azure.clear()
    misses = [AzureError(404, "NotFound", "no deployment takes this request yet")]

    def answer(*_: object) -> str:
        if misses:
            raise misses.pop()
        return "Paris."

    azure.answer = answer
    assert deploy.run(AzureSession(endpoint_with(recipe, instances=2))).changed
    assert writes(azure) == ["PUT tuned-blue"]
    assert azure.find("POST .*/score")  # changed, so asked again
    assert deployments_of(azure)["tuned-blue"].body["sku"]["capacity"] == 2
    assert traffic_of(azure) == {"tuned-blue": 100}
    azure.answer = lambda *_: "!!!!!!!!"
    for _ in range(2):
        with pytest.raises(FixableError, match="answers '!!!!!!!!'"):
            deploy.run(AzureSession(endpoint_with(recipe, instances=2)))


def test_gguf_gets_a_container_of_its_own(azure: FakeAzure) -> None:
    recipe = make_workspace(azure, name="gguf-azure")
    assert "build the image of environment gguf-scoring" in "\n".join(
        deploy.plan(AzureSession(recipe))
    )
    deploy.run(AzureSession(recipe))
    (environment,) = [one for one in azure.store if one.kind.endswith("/environments/versions")]
    routes = environment.properties["inferenceConfig"]
    assert {name: route["path"] for name, route in routes.items()} == {
        "livenessRoute": "/live",
        "readinessRoute": "/health",
        "scoringRoute": "/score",
    }
    assert environment.properties["build"]["dockerfilePath"] == "Dockerfile"
    given = deployments_of(azure)["tuned-blue"].properties
    assert given["environmentId"] == environment.id.text
    assert given["environmentVariables"]["CONTEXT_WINDOW"] == "2048"
    azure.clear()
    assert not deploy.run(AzureSession(recipe)).changed
    assert azure.writes == []
    assert azure.violations == []


def test_traffic_is_shared() -> None:
    assert share_traffic({}, "b", 10) == {"b": 100}
    assert share_traffic({"a": 100}, "b", 10) == {"a": 90, "b": 10}
    assert share_traffic({"a": 100}, "b", 100) == {"b": 100}
    assert share_traffic({"a": 50, "b": 50}, "b", 10) == {"a": 50, "b": 50}
    assert share_traffic({"a": 10, "b": 90}, "c", 20) == {"b": 80, "c": 20}
    assert share_traffic({"b": 100}, "b", 10) == {"b": 100}
    assert share_traffic({"a": 20, "b": 40}, "b", 10) == {"a": 60, "b": 40}
    assert share_traffic({"a": 20, "b": 5}, "b", 10) == {"a": 90, "b": 10}


def test_deployments_are_named_after_slots(recipe: AzureRecipe) -> None:
    """As they once were after versions, which are recognised still."""
    assert slot_names(recipe) == ["tuned-blue", "tuned-green"]
    assert versioned_name(recipe, "3") == "tuned-3"
    assert versioned_name(recipe, "2026.11_22") == "tuned-2026-11-22"
    longest = endpoint_with(recipe, deployment="a" * 32)
    assert [len(name) for name in slot_names(longest)] == [32, 32]
    name = versioned_name(longest, "1" * 30)
    assert len(name) == 32
    assert name.endswith("-" + "1" * 16)


def test_endpoint_of_others_is_left_alone(azure: FakeAzure, recipe: AzureRecipe) -> None:
    deploy.run(AzureSession(recipe))
    found = endpoint_of(azure)
    found.properties["authMode"] = "AMLToken"
    assert "takes aml_token" in fails(recipe).what
    found.properties["authMode"] = "Key"
    found.body["tags"]["team"] = "ours"
    azure.clear()
    assert not deploy.run(AzureSession(recipe)).changed
    assert workspace_id(azure, recipe) in found.id.text
    assert ManagedEndpoint(AzureSession(recipe)).key() == found.hidden["primaryKey"]
