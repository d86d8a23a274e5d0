"""What is found half made, by hand or by a command that was cut off, is put right by ``deploy``."""

from __future__ import annotations

from setup.azure import deploy
from setup.azure.deployment import wanted_deployment
from setup.azure.endpoint import ManagedEndpoint
from setup.azure.recipe import AzureRecipe, load_azure_recipe
from setup.azure.session import AzureSession
from setup.azure.version import need_version
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
    deploy.run(recipe)
    deployments_of(azure)["tuned-1"].properties["provisioningState"] = "Failed"
    azure.clear()
    assert "change deployment tuned-1" in "\n".join(deploy.plan(recipe))
    assert deploy.run(recipe).changed
    assert writes(azure) == ["PUT tuned-1"]  # it takes traffic: put right where it is
    endpoint_of(azure).properties["traffic"] = {}
    deployments_of(azure)["tuned-1"].properties["provisioningState"] = "Canceled"
    azure.clear()
    larger = endpoint_with(recipe, sku="Standard_NC48ads_A100_v4")
    assert "replace failed deployment tuned-1" in "\n".join(deploy.plan(larger))
    assert deploy.run(larger).changed
    assert writes(azure)[:2] == ["DELETE tuned-1", "PUT tuned-1"]
    assert traffic_of(azure) == {"tuned-1": 100}


def test_deployment_with_an_operation_under_way(azure: FakeAzure, recipe: AzureRecipe) -> None:
    deploy.run(recipe)
    register(azure, recipe, "2")
    session = AzureSession(recipe)
    endpoint = ManagedEndpoint(session)
    deployments, slowly, quickly = endpoint.ml.online_deployments, 80, azure.operations.polls
    two = endpoint_with(recipe, instances=2)
    other = wanted_deployment(two, "tuned-2", endpoint.name, need_version(session))
    azure.operations.polls = slowly
    deployments.begin_create_or_update(other)
    azure.operations.polls = quickly
    azure.clear()
    assert deploy.run(recipe).changed  # waits for it, then sees that it is not what is wanted
    assert writes(azure) == ["PUT tuned-2", f"PUT {endpoint.name}"]
    assert deployments_of(azure)["tuned-2"].body["sku"]["capacity"] == 1
    endpoint.shift({"tuned-1": 100})
    azure.operations.polls = slowly
    deployments.begin_delete("tuned-2", endpoint.name)
    azure.operations.polls = quickly
    azure.clear()
    assert deploy.run(recipe).changed
    assert writes(azure) == ["PUT tuned-2", f"PUT {endpoint.name}"]
    assert traffic_of(azure) == {"tuned-2": 100}


def test_endpoint_in_failed_state_keeps_its_traffic(azure: FakeAzure, recipe: AzureRecipe) -> None:
    deploy.run(recipe)
    endpoint_of(azure).properties["provisioningState"] = "Failed"
    azure.clear()
    assert "put right endpoint" in deploy.plan(recipe)[0]
    assert deploy.run(recipe).changed
    (put,) = azure.writes
    assert put.body["properties"]["traffic"] == {"tuned-1": 100}
    assert endpoint_of(azure).properties["provisioningState"] == "Succeeded"
    azure.store.delete(endpoint_of(azure).id.text)
    elsewhere = workspace_id(azure, recipe).replace("phi-workspace", "phi-hub")
    add(azure, f"{elsewhere}/onlineEndpoints/taken", location="eastus2", properties={})
    error = fails(endpoint_with(recipe, name="taken"))
    assert "the name of endpoint taken is taken in eastus2" in error.what
    assert error.fix == "--set endpoint.name=ANOTHER"


def test_mirror_becomes_the_one_that_answers(azure: FakeAzure, recipe: AzureRecipe) -> None:
    deploy.run(recipe)
    register(azure, recipe, "2")
    azure.answer = lambda *_: {}
    fails(recipe)
    azure.answer = lambda *_: "Paris."
    endpoint_of(azure).properties["mirrorTraffic"] = {"tuned-2": 10}
    azure.clear()
    assert deploy.run(endpoint_with(recipe, canary=20)).changed
    assert traffic_of(azure) == {"tuned-1": 80, "tuned-2": 20}
    assert endpoint_of(azure).properties["mirrorTraffic"] == {}


def test_previous_is_kept_and_what_is_older_goes(azure: FakeAzure, recipe: AzureRecipe) -> None:
    none = load_azure_recipe("phi-azure", ["endpoint.keep_previous=false"])
    deploy.run(recipe)
    register(azure, recipe, "2")
    deploy.run(recipe)
    register(azure, recipe, "3")
    deploy.run(endpoint_with(none, canary=10))
    assert set(deployments_of(azure)) == {"tuned-1", "tuned-2", "tuned-3"}
    assert "deleted: tuned-1" in deploy.run(recipe).detail
    assert set(deployments_of(azure)) == {"tuned-2", "tuned-3"}
    assert "keep deployment tuned-2 of endpoint" in "\n".join(deploy.plan(recipe))
    foreign = deployments_of(azure)["tuned-2"]
    add(azure, foreign.id.text.replace("tuned-2", "by-hand"), **foreign.body)
    azure.clear()
    planned = "\n".join(deploy.plan(none))
    assert "delete deployment tuned-2 of endpoint" in planned
    assert "Standard_NC24ads_A100_v4, $$$ an hour until it is deleted" in planned
    azure.answer = busy
    assert not deploy.run(none).changed
    azure.answer = lambda *_: {}
    assert "does not answer" in fails(none).what
    assert azure.writes == []  # nothing goes before the new one has answered
    azure.answer = lambda *_: "Paris."
    assert "deleted: tuned-2" in deploy.run(none).detail
    assert writes(azure) == ["DELETE tuned-2"]
    assert set(deployments_of(azure)) == {"by-hand", "tuned-3"}
