"""What is found half made, by hand or by a command that was cut off, is put right by ``deploy``."""

from __future__ import annotations

import pytest

from setup.azure.client.session import AzureSession
from setup.azure.deploy import step as deploy
from setup.azure.deploy.deployment import describe_deployment
from setup.azure.deploy.online_endpoint import ManagedEndpoint
from setup.azure.deploy.registration import need_version
from setup.recipe.azure import AzureRecipe
from setup.recipe.load import load_azure_recipe
from tests.azure.fake import FakeAzure
from tests.azure.serving import (
    add,
    busy,
    deployments_of,
    endpoint_of,
    endpoint_with,
    fails,
    register,
    traffic_of,
    workspace_id,
    writes,
)


def test_deployment_that_ended_badly(azure: FakeAzure, recipe: AzureRecipe) -> None:
    deploy.run(AzureSession(recipe))
    deployments_of(azure)["tuned-blue"].properties["provisioningState"] = "Failed"
    azure.clear()
    assert "change deployment tuned-blue" in "\n".join(deploy.plan(AzureSession(recipe)))
    assert deploy.run(AzureSession(recipe)).changed
    assert writes(azure) == ["PUT tuned-blue"]  # it takes traffic: put right where it is
    endpoint_of(azure).properties["traffic"] = {}
    deployments_of(azure)["tuned-blue"].properties["provisioningState"] = "Canceled"
    azure.clear()
    larger = endpoint_with(recipe, sku="Standard_NC48ads_A100_v4")
    assert "replace failed deployment tuned-blue" in "\n".join(deploy.plan(AzureSession(larger)))
    assert deploy.run(AzureSession(larger)).changed
    assert writes(azure)[:2] == ["DELETE tuned-blue", "PUT tuned-blue"]
    assert traffic_of(azure) == {"tuned-blue": 100}


def test_deployment_with_an_operation_under_way(azure: FakeAzure, recipe: AzureRecipe) -> None:
    deploy.run(AzureSession(recipe))
    register(azure, recipe, "2")
    session = AzureSession(recipe)
    endpoint = ManagedEndpoint(session)
    deployments, slowly, quickly = endpoint.ml.online_deployments, 80, azure.operations.polls
    two = endpoint_with(recipe, instances=2)
    other = describe_deployment(two, "tuned-green", endpoint.name, need_version(session))
    azure.operations.polls = slowly
    deployments.begin_create_or_update(other)
    azure.operations.polls = quickly
    azure.clear()
    assert deploy.run(
        AzureSession(recipe)
    ).changed  # waits for it, then sees that it is not what is wanted
    assert writes(azure) == ["PUT tuned-green", f"PUT {endpoint.name}"]
    assert deployments_of(azure)["tuned-green"].body["sku"]["capacity"] == 1
    endpoint.shift({"tuned-blue": 100})
    azure.operations.polls = slowly
    deployments.begin_delete("tuned-green", endpoint.name)
    azure.operations.polls = quickly
    azure.clear()
    assert deploy.run(AzureSession(recipe)).changed
    assert writes(azure) == ["PUT tuned-green", f"PUT {endpoint.name}"]
    assert traffic_of(azure) == {"tuned-green": 100}


def test_endpoint_in_failed_state_keeps_its_traffic(azure: FakeAzure, recipe: AzureRecipe) -> None:
    deploy.run(AzureSession(recipe))
    endpoint_of(azure).properties["provisioningState"] = "Failed"
    azure.clear()
    assert "put right endpoint" in deploy.plan(AzureSession(recipe))[0]
    assert deploy.run(AzureSession(recipe)).changed
    (put,) = azure.writes
    assert put.body["properties"]["traffic"] == {"tuned-blue": 100}
    assert endpoint_of(azure).properties["provisioningState"] == "Succeeded"
    azure.store.delete(endpoint_of(azure).id.text)
    elsewhere = workspace_id(azure, recipe).replace("phi-workspace", "phi-hub")
    add(azure, f"{elsewhere}/onlineEndpoints/taken", location="eastus2", properties={})
    error = fails(endpoint_with(recipe, name="taken"))
    assert "the name of endpoint taken is taken in eastus2" in error.what
    assert error.fix == "--set endpoint.name=ANOTHER"


def test_mirror_becomes_the_one_that_answers(azure: FakeAzure, recipe: AzureRecipe) -> None:
    deploy.run(AzureSession(recipe))
    register(azure, recipe, "2")
    azure.answer = lambda *_: {}
    fails(recipe)
    azure.answer = lambda *_: "Paris."
    endpoint_of(azure).properties["mirrorTraffic"] = {"tuned-green": 10}
    register(azure, recipe, "3")
    error = fails(recipe)
    assert "tuned-blue 100 %, tuned-green copies of 10 %" in error.what
    assert "python -m setup traffic --recipe phi-azure --mirror tuned-green=0" in error.fix
    azure.store.delete(f"{workspace_id(azure, recipe)}/models/phi-azure/versions/3")
    azure.clear()
    assert deploy.run(AzureSession(endpoint_with(recipe, canary=20))).changed
    assert traffic_of(azure) == {"tuned-blue": 80, "tuned-green": 20}
    assert endpoint_of(azure).properties["mirrorTraffic"] == {}


def test_previous_is_kept_or_goes(azure: FakeAzure, recipe: AzureRecipe) -> None:
    none = load_azure_recipe("phi-azure", ["endpoint.keep_previous=false"])
    deploy.run(AzureSession(recipe))
    register(azure, recipe, "2")
    deploy.run(AzureSession(recipe))
    assert "keep deployment tuned-blue of endpoint" in "\n".join(deploy.plan(AzureSession(recipe)))
    kept = deployments_of(azure)["tuned-blue"]
    add(azure, kept.id.text.replace("tuned-blue", "by-hand"), **kept.body)
    azure.clear()
    planned = "\n".join(deploy.plan(AzureSession(none)))
    assert "delete deployment tuned-blue of endpoint" in planned
    assert "keep deployment by-hand of endpoint" in planned
    assert "Standard_NC24ads_A100_v4, $$$ an hour until it is deleted" in planned
    azure.answer = busy
    assert not deploy.run(AzureSession(none)).changed
    azure.answer = lambda *_: {}
    assert "does not answer" in fails(none).what
    assert azure.writes == []  # nothing goes before the new one has answered
    azure.answer = lambda *_: "Paris."
    assert "deleted: tuned-blue" in deploy.run(AzureSession(none)).detail
    assert writes(azure) == ["DELETE tuned-blue"]
    assert set(deployments_of(azure)) == {"by-hand", "tuned-green"}


def test_another_sku_goes_into_the_other_slot(azure: FakeAzure, recipe: AzureRecipe) -> None:
    """Azure changes no deployment's SKU, and what answers is not to stop for it."""
    deploy.run(AzureSession(recipe))
    larger = endpoint_with(recipe, sku="Standard_NC48ads_A100_v4")
    planned = "\n".join(deploy.plan(AzureSession(larger)))
    assert "make deployment tuned-green: version 1 of phi-azure" in planned
    assert deploy.run(AzureSession(larger)).changed
    assert traffic_of(azure) == {"tuned-green": 100}
    assert set(deployments_of(azure)) == {"tuned-blue", "tuned-green"}
    azure.clear()
    assert not deploy.run(AzureSession(larger)).changed
    register(azure, recipe, "2")
    assert "replace version 1 in deployment tuned-blue" in "\n".join(
        deploy.plan(AzureSession(larger))
    )
    deploy.run(AzureSession(larger))
    assert writes(azure)[:2] == ["DELETE tuned-blue", "PUT tuned-blue"]
    assert traffic_of(azure) == {"tuned-blue": 100}
    assert deploy.rollback(AzureSession(larger)).changed
    assert traffic_of(azure) == {"tuned-green": 100}


@pytest.mark.parametrize("canary", [10, 60])
def test_canary_of_another_sku_is_rolled_back(
    azure: FakeAzure, recipe: AzureRecipe, canary: int
) -> None:
    """Both slots then serve the same version, and only one of them is new."""
    deploy.run(AzureSession(recipe))
    larger = endpoint_with(recipe, sku="Standard_NC48ads_A100_v4", canary=canary)
    deploy.run(AzureSession(larger))
    assert traffic_of(azure) == {"tuned-blue": 100 - canary, "tuned-green": canary}
    assert deploy.rollback(AzureSession(larger)).changed
    assert traffic_of(azure) == {"tuned-blue": 100}


def test_slot_whose_change_was_cut_off(azure: FakeAzure, recipe: AzureRecipe) -> None:
    """A version that came while the one before it was on its way into the same slot."""
    deploy.run(AzureSession(recipe))
    register(azure, recipe, "2")
    session = AzureSession(recipe)
    endpoint = ManagedEndpoint(session)
    polls, azure.operations.polls = azure.operations.polls, 60
    second = describe_deployment(recipe, "tuned-green", endpoint.name, need_version(session))
    endpoint.ml.online_deployments.begin_create_or_update(second)
    azure.operations.polls = polls
    register(azure, recipe, "3")
    azure.clear()
    deploy.run(AzureSession(recipe))
    assert writes(azure) == ["PUT tuned-green", f"PUT {endpoint.name}"]
    assert deployments_of(azure)["tuned-green"].properties["model"].endswith("/versions/3")
    assert traffic_of(azure) == {"tuned-green": 100}
