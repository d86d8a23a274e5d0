"""What a rollback goes back to, what stays for it, and a deployment that is too busy to answer."""

from __future__ import annotations

from typing import Any

import pytest

from flows.chat.scoring_client import transport
from setup.azure.client.session import AzureSession
from setup.azure.deploy import step as deploy
from setup.azure.deploy.traffic import Slots
from setup.common.errors import FixableError
from setup.recipe.azure import AzureRecipe
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


def model_of(azure: FakeAzure, name: str) -> str:
    """The version that a deployment serves."""
    return str(deployments_of(azure)[name].properties["model"]).rpartition("/")[2]


def test_two_slots_and_no_third(azure: FakeAzure, recipe: AzureRecipe) -> None:
    deploy.run(AzureSession(recipe))
    ours = deployments_of(azure)["tuned-blue"]
    path = ours.properties["model"].replace("/phi-azure/versions/1", "/other/versions/0")
    add(azure, path, properties={"modelUri": "azureml://x", "modelType": "mlflow_model"})
    blue = ours.body | {"properties": ours.properties | {"model": path}}
    add(azure, ours.id.text.replace("tuned-blue", "blue"), **blue)
    register(azure, recipe, "2")
    azure.answer = lambda name, _: "!!!!!!!!" if name == "tuned-green" else "Paris."
    fails(recipe)
    azure.answer = lambda *_: "Paris."
    register(azure, recipe, "3")
    assert "replace version 2 in deployment tuned-green: version 3" in "\n".join(
        deploy.plan(AzureSession(recipe))
    )
    detail = deploy.run(AzureSession(recipe)).detail
    assert "; it took the place of version 2" in detail
    assert detail.count("is there for a rollback") == 1
    assert "tuned-blue (version 1) takes 0 %, is there for a rollback and is billed" in detail
    assert "blue takes 0 % and is billed until" in detail
    assert set(deployments_of(azure)) == {"blue", "tuned-blue", "tuned-green"}
    detail = deploy.rollback(AzureSession(recipe)).detail
    assert "tuned-blue (version 1) of endpoint" in detail
    assert (
        "tuned-green (version 3) takes none and is billed until you run: python -m setup" in detail
    )
    register(azure, recipe, "4")
    deploy.run(
        AzureSession(recipe)
    )  # into the slot that was rolled back, not into the one that answers
    assert [model_of(azure, name) for name in ("tuned-blue", "tuned-green")] == ["1", "4"]
    assert traffic_of(azure) == {"tuned-green": 100}
    deploy.rollback(AzureSession(recipe))
    assert traffic_of(azure) == {"tuned-blue": 100}
    assert endpoint_of(azure).body["tags"]["rolled-back"] == "4"
    with pytest.raises(FixableError, match="no healthy deployment older than tuned-blue"):
        deploy.rollback(AzureSession(recipe))  # blue, which nobody was sent to, is another's


def test_canary_ends_before_the_next_begins(azure: FakeAzure, recipe: AzureRecipe) -> None:
    deploy.run(AzureSession(recipe))
    register(azure, recipe, "2")
    deploy.run(AzureSession(endpoint_with(recipe, canary=10)))
    register(azure, recipe, "3")
    azure.clear()
    error = fails(recipe)
    assert "is free for version 3 of phi-azure: tuned-blue 90 %, tuned-green 10 %" in error.what
    assert "python -m setup rollback --recipe phi-azure ends the canary" in error.fix
    assert "python -m setup traffic --recipe phi-azure tuned-green=100" in error.fix
    with pytest.raises(FixableError, match="is free for version 3"):
        deploy.plan(AzureSession(recipe))
    assert azure.writes == []
    deploy.rollback(AzureSession(recipe))
    deploy.run(AzureSession(recipe))
    assert traffic_of(azure) == {"tuned-green": 100}
    assert model_of(azure, "tuned-green") == "3"


def test_slot_that_was_replaced_is_no_way_back(azure: FakeAzure, recipe: AzureRecipe) -> None:
    """What answered before is gone, and what is in its place has never answered."""
    deploy.run(AzureSession(recipe))
    register(azure, recipe, "2")
    deploy.run(AzureSession(recipe))
    register(azure, recipe, "3")
    azure.answer = lambda name, _: "!!!!!!!!" if name == "tuned-blue" else "Paris."
    fails(recipe)
    assert model_of(azure, "tuned-blue") == "3"
    with pytest.raises(FixableError, match="no healthy deployment older than tuned-green"):
        deploy.rollback(AzureSession(recipe))
    assert traffic_of(azure) == {"tuned-green": 100}


def as_before(azure: FakeAzure, recipe: AzureRecipe, *versions: str, **tags: str) -> None:
    """Deployments as they once were made: named after their versions, the last one with traffic."""
    deploy.run(AzureSession(recipe))
    slot = deployments_of(azure)["tuned-blue"]
    endpoint_of(azure).properties["traffic"] = {}
    azure.store.delete(slot.id.text)
    for version in versions:
        if version != "1":
            register(azure, recipe, version)
        model = slot.properties["model"].replace("/versions/1", f"/versions/{version}")
        body = slot.body | {"properties": slot.properties | {"model": model}}
        add(azure, slot.id.text.replace("tuned-blue", f"tuned-{version}"), **body)
    endpoint_of(azure).properties["traffic"] = {f"tuned-{versions[-1]}": 100}
    endpoint_of(azure).body["tags"].update({key.replace("_", "-"): tags[key] for key in tags})
    azure.clear()


def test_deployments_named_after_versions_give_way(azure: FakeAzure, recipe: AzureRecipe) -> None:
    as_before(azure, recipe, "1", "2", previous="tuned-1")
    assert not deploy.run(
        AzureSession(recipe)
    ).changed  # what answers is right, and stays what it is called
    assert azure.writes == []
    register(azure, recipe, "3")
    planned = deploy.plan(AzureSession(recipe))
    assert "make deployment tuned-blue: version 3 of phi-azure" in planned[1]
    assert [line.split(" of ")[0] for line in planned[4:-1]] == [
        "delete deployment tuned-1",
        "keep deployment tuned-2",
    ]
    detail = deploy.run(AzureSession(recipe)).detail
    name = endpoint_of(azure).id.name
    assert writes(azure) == ["DELETE tuned-1", "PUT tuned-blue", f"PUT {name}"]
    assert "tuned-2 (version 2) takes 0 %, is there for a rollback" in detail
    assert detail.partition(". It is billed")[0].endswith("; deleted: tuned-1")
    deploy.rollback(AzureSession(recipe))
    assert traffic_of(azure) == {"tuned-2": 100}
    assert "was rolled back" in deploy.run(AzureSession(recipe)).detail
    register(azure, recipe, "4")
    deploy.run(AzureSession(recipe))
    assert model_of(azure, "tuned-blue") == "4"
    register(azure, recipe, "5")
    deploy.run(AzureSession(endpoint_with(recipe, keep_previous=False)))
    assert set(deployments_of(azure)) == {"tuned-green"}


def test_rollback_that_was_remembered_by_name(azure: FakeAzure, recipe: AzureRecipe) -> None:
    as_before(azure, recipe, "3", "2", "1", rolled_back="tuned-3 tuned-2")
    assert "was rolled back" in deploy.run(AzureSession(recipe)).detail
    assert azure.writes == []
    with pytest.raises(FixableError, match="no healthy deployment older than tuned-1"):
        deploy.rollback(AzureSession(recipe))
    register(azure, recipe, "4")
    deploy.run(AzureSession(endpoint_with(recipe, keep_previous=False)))
    assert set(deployments_of(azure)) == {"tuned-blue"}


def test_way_back(recipe: AzureRecipe) -> None:
    from azure.ai.ml import entities

    def serving(name: str, version: str, model: str = "phi-azure") -> Any:
        path = f"/x/models/{model}/versions/{version}"
        one = entities.ManagedOnlineDeployment(name=name, model=path)
        one._provisioning_state = "Succeeded"
        return one

    there = {f"tuned-{version}": serving(f"tuned-{version}", version) for version in "123"}
    there |= {"by-hand": serving("by-hand", "3", "other"), "tuned-blue": serving("x", "4")}
    endpoint = entities.ManagedOnlineEndpoint(name="it", traffic={"tuned-blue": 100})

    def back() -> str:
        return Slots(recipe, endpoint, there).way_back("tuned-blue")

    def superseded() -> list[str]:
        return Slots(recipe, endpoint, there).superseded("tuned-blue")

    assert back() == "tuned-3"
    endpoint.tags = {"rolled-back": "3"}
    assert back() == "tuned-2"
    assert superseded() == ["tuned-1", "tuned-3"]
    endpoint.tags = {"previous": "tuned-1"}
    assert back() == "tuned-1"
    endpoint.tags = {"previous": "1"}
    assert back() == "tuned-1"
    assert superseded() == ["tuned-2", "tuned-3"]
    endpoint.tags = {"previous": "by-hand"}
    assert back() == "by-hand"
    endpoint.traffic = {"tuned-1": 90, "tuned-blue": 10}
    assert back() == "tuned-1"


def test_what_the_tags_remember(recipe: AzureRecipe) -> None:
    from azure.ai.ml import entities

    endpoint = entities.ManagedOnlineEndpoint(name="it", traffic={}, tags={"team": "ours"})
    there: dict[str, Any] = {}

    def shift(taken_from: str = "", **traffic: int) -> tuple[str, str]:
        """Slots by the first letter, their versions behind it."""
        slots = {"b": "tuned-blue", "g": "tuned-green"}
        names = {slots[word[0]]: word[1:] for word in traffic}
        for name, version in names.items():
            path = f"/x/models/phi-azure/versions/{version}"
            there[name] = entities.ManagedOnlineDeployment(name=name, model=path)
        shares = dict(zip(names, traffic.values(), strict=True))
        endpoint.tags = Slots(recipe, endpoint, there).tags_after(shares, taken_from)
        endpoint.traffic = shares
        return endpoint.tags.get("previous", ""), endpoint.tags.get("rolled-back", "")

    assert shift(b1=100) == ("", "")
    assert shift(g2=100) == ("1", "")
    assert shift(g2=90, b3=10) == ("1", "")  # which is nowhere any more
    assert shift(b3=100) == ("2", "")
    assert shift("tuned-blue", g2=100) == ("", "3")
    assert shift(b4=100) == ("2", "3")
    assert shift("tuned-blue", g2=100) == ("", "4")
    assert shift(b4=100) == ("2", "")
    assert endpoint.tags == {"team": "ours", "previous": "2"}


def test_busy_deployment_counts_as_there(
    azure: FakeAzure, recipe: AzureRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_BACKOFF", 0.0)
    deploy.run(AzureSession(recipe))
    azure.clear()

    def refuse(status: int) -> None:
        def answer(*_: object) -> str:
            raise AzureError(status, "Refused", "no")

        azure.answer = answer

    for status in (429, 408):
        refuse(status)
        assert not deploy.run(AzureSession(recipe)).changed
    assert azure.writes == []
    error = fails(endpoint_with(recipe, instances=2))  # changed, so it has to answer
    assert "rollback" not in error.fix
    assert "the same command again" in error.fix
    for status, wrong in ((503, False), (424, True)):
        refuse(status)
        assert ("rollback" in fails(endpoint_with(recipe, instances=2)).fix) is wrong


def test_rollback_to_a_busy_deployment(azure: FakeAzure, recipe: AzureRecipe) -> None:
    deploy.run(AzureSession(recipe))
    register(azure, recipe, "2")
    deploy.run(AzureSession(endpoint_with(recipe, canary=10)))
    azure.clear()
    azure.answer = busy
    assert deploy.rollback(AzureSession(recipe)).changed
    assert traffic_of(azure) == {"tuned-blue": 100}
    assert writes(azure) == [f"PUT {endpoint_of(azure).id.name}"]
