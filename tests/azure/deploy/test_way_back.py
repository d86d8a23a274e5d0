"""What a rollback goes back to, what stays for it, and a deployment that is too busy to answer."""

from __future__ import annotations

import pytest

from flows.chat.endpoint import transport
from setup.azure import deploy
from setup.azure.recipe import AzureRecipe
from setup.azure.superseded import superseded, way_back
from setup.azure.traffic import previous, rolled_back, tags_after
from setup.azure.version import age
from setup.errors import FixableError
from tests.azure.fake import FakeAzure
from tests.azure.fake.messages import AzureError
from tests.azure.serving import (
    add,
    busy,
    deployments_of,
    endpoint_of,
    endpoint_with,
    fails,
    register,
    traffic_of,
    writes,
)


def test_what_answered_before_stays(azure: FakeAzure, recipe: AzureRecipe) -> None:
    deploy.run(recipe)
    ours = deployments_of(azure)["tuned-1"]
    path = ours.properties["model"].replace("/phi-azure/versions/1", "/other/versions/0")
    add(azure, path, properties={"modelUri": "azureml://x", "modelType": "mlflow_model"})
    blue = ours.body | {"properties": ours.properties | {"model": path}}
    add(azure, ours.id.text.replace("tuned-1", "blue"), **blue)
    register(azure, recipe, "2")
    azure.answer = lambda name, _: "!!!!!!!!" if name == "tuned-2" else "Paris."
    fails(recipe)
    register(azure, recipe, "3")
    planned = "\n".join(deploy.plan(recipe))
    assert "keep deployment tuned-1 of" in planned
    assert "delete deployment tuned-2 of" in planned
    detail = deploy.run(recipe).detail
    assert detail.count("is there for a rollback") == 1
    assert "tuned-1 takes 0 %, is there for a rollback and costs until" in detail
    assert "blue takes 0 % and costs until" in detail
    assert set(deployments_of(azure)) == {"blue", "tuned-1", "tuned-3"}
    assert deploy.rollback(recipe).changed
    register(azure, recipe, "4")
    assert "deleted: tuned-3" in deploy.run(recipe).detail
    assert set(deployments_of(azure)) == {"blue", "tuned-1", "tuned-4"}
    deploy.rollback(recipe)
    assert traffic_of(azure) == {"tuned-1": 100}
    assert endpoint_of(azure).body["tags"]["rolled-back"] == "tuned-4 tuned-3"
    with pytest.raises(FixableError, match="no healthy deployment older than tuned-1"):
        deploy.rollback(recipe)  # blue, which nobody was sent to, is another's


def test_way_back(recipe: AzureRecipe) -> None:
    from azure.ai.ml import entities  # noqa: PLC0415 - takes seconds

    def serving(name: str, model: str = "phi-azure") -> entities.ManagedOnlineDeployment:
        path = f"/x/models/{model}/versions/{name[-1]}"
        one = entities.ManagedOnlineDeployment(name=name, model=path)
        one._provisioning_state = "Succeeded"
        return one

    there = {name: serving(name) for name in ("tuned-1", "tuned-2", "tuned-3")}
    there["blue-3"] = serving("blue-3", "other")
    endpoint = entities.ManagedOnlineEndpoint(name="it", traffic={"tuned-4": 100})

    def back() -> str:
        return way_back(recipe, endpoint, there, age("4"))

    assert back() == "tuned-3"
    endpoint.tags = {"rolled-back": "tuned-3"}
    assert back() == "tuned-2"
    assert superseded(recipe, endpoint, there, "4") == ["tuned-1", "tuned-3"]
    endpoint.tags = {"previous": "tuned-1"}
    assert back() == "tuned-1"
    assert superseded(recipe, endpoint, there, "4") == ["tuned-2", "tuned-3"]
    endpoint.traffic = {"blue-3": 90, "tuned-4": 10}
    assert back() == "blue-3"


def test_what_the_tags_remember() -> None:
    from azure.ai.ml import entities  # noqa: PLC0415 - takes seconds

    endpoint = entities.ManagedOnlineEndpoint(name="it", traffic={}, tags={"team": "ours"})

    def shift(taken_from: str = "", **traffic: int) -> tuple[str, list[str]]:
        endpoint.tags = tags_after(endpoint, traffic, taken_from)
        endpoint.traffic = dict(traffic)
        return previous(endpoint), rolled_back(endpoint)

    assert shift(a=100) == ("", [])
    assert shift(b=100) == ("a", [])
    assert shift(b=90, c=10) == ("a", [])
    assert shift(c=100) == ("b", [])
    assert shift("c", b=100) == ("", ["c"])
    assert shift(d=100) == ("b", ["c"])
    assert shift("d", b=100) == ("", ["d", "c"])
    assert shift(c=100) == ("b", ["d"])
    assert endpoint.tags == {"team": "ours", "previous": "b", "rolled-back": "d"}


def test_busy_deployment_counts_as_there(
    azure: FakeAzure, recipe: AzureRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_BACKOFF", 0.0)
    deploy.run(recipe)
    azure.clear()

    def refuse(status: int) -> None:
        def answer(*_: object) -> str:
            raise AzureError(status, "Refused", "no")

        azure.answer = answer

    for status in (429, 408):
        refuse(status)
        assert not deploy.run(recipe).changed
    assert azure.writes == []
    error = fails(endpoint_with(recipe, instances=2))  # changed, so it has to answer
    assert "rollback" not in error.fix
    assert "the same command again" in error.fix
    for status, wrong in ((503, False), (424, True)):
        refuse(status)
        assert ("rollback" in fails(endpoint_with(recipe, instances=2)).fix) is wrong


def test_rollback_to_a_busy_deployment(azure: FakeAzure, recipe: AzureRecipe) -> None:
    deploy.run(recipe)
    register(azure, recipe, "2")
    deploy.run(endpoint_with(recipe, canary=10))
    azure.clear()
    azure.answer = busy
    assert deploy.rollback(recipe).changed
    assert traffic_of(azure) == {"tuned-1": 100}
    assert writes(azure) == [f"PUT {endpoint_of(azure).id.name}"]
