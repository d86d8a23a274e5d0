"""The data collector of a deployment: off unless the recipe switches it on, and then as asked."""

from __future__ import annotations

import pytest

from setup.azure.client.session import AzureSession
from setup.azure.deploy import step as deploy
from setup.common.errors import FixableError
from setup.recipe.azure import AzureRecipe
from setup.recipe.load import load_azure_recipe
from tests.azure.fake import FakeAzure
from tests.azure.serving import deployments_of, endpoint_of, writes

ON = ["endpoint.data_collector.enabled=true", "endpoint.data_collector.sampling_rate=0.25"]


def test_nothing_is_collected_by_default(azure: FakeAzure, recipe: AzureRecipe) -> None:
    result = deploy.run(AzureSession(recipe))
    assert not deployments_of(azure)["tuned-blue"].properties.get("dataCollector")
    assert "are kept in" not in result.detail


def test_requests_and_answers_are_collected_as_asked(azure: FakeAzure, recipe: AzureRecipe) -> None:
    collecting = load_azure_recipe("phi-azure", ON)
    assert "25% of requests and answers" in "\n".join(deploy.plan(AzureSession(collecting)))
    # A first try that Azure has no time for must not spoil the second.
    azure.fail(r"PUT .*/deployments/tuned-blue", times=1, how="conflict")
    result = deploy.run(AzureSession(collecting))
    told = deployments_of(azure)["tuned-blue"].properties["dataCollector"]
    assert told["rollingRate"] == "Hour"
    assert set(told["collections"]) == {"request", "response"}
    for name, collection in told["collections"].items():
        assert collection["dataCollectionMode"].lower() == "enabled"
        assert collection["samplingRate"] == 0.25
        asset = f"{endpoint_of(azure).id.name}-tuned-blue-{name}"
        assert collection["dataId"].endswith(f"/data/{asset}/versions/1")
    assert azure.violations == []
    assert f"modelDataCollector/{endpoint_of(azure).id.name}/tuned-blue" in result.detail
    azure.clear()
    assert not deploy.run(AzureSession(collecting)).changed
    assert writes(azure) == []


def test_collector_is_switched_off_again(azure: FakeAzure, recipe: AzureRecipe) -> None:
    deploy.run(AzureSession(load_azure_recipe("phi-azure", ON)))
    azure.clear()
    assert "change deployment tuned-blue" in "\n".join(deploy.plan(AzureSession(recipe)))
    assert deploy.run(AzureSession(recipe)).changed
    assert not deployments_of(azure)["tuned-blue"].properties.get("dataCollector")


@pytest.mark.parametrize("value", ["sampling_rate=0", "sampling_rate=2", "rolling_rate=year"])
def test_what_no_collector_takes_is_refused(value: str) -> None:
    with pytest.raises(FixableError, match="data_collector"):
        load_azure_recipe("phi-azure", [f"endpoint.data_collector.{value}"])
