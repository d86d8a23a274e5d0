"""The contract after a fine-tune: nobody knows it before, so the smoke finds it out for clients."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flows.chat.scoring_client import Endpoint, Settings
from setup.azure.client.session import AzureSession
from setup.azure.deploy import step as deploy
from setup.azure.project import connections as connect
from setup.recipe.azure import AzureRecipe
from tests.azure.fake import FakeAzure
from tests.azure.serving import (
    endpoint_of,
    endpoint_with,
    fails,
    make_workspace,
    register,
    traffic_of,
)
from tests.azure.trainable import listen
from tests.home import ROOT
from tests.scripted.pf_home import isolated_home
from tests.setup.command import run

PF_HOME = isolated_home()  # before the first import of promptflow
RECIPE = ("--recipe", "phi-azure")
# By what a deployment turns out to serve: what the connection says of it, and how it is asked.
FOUND = {
    "score": ({"contract": "score"}, "/score"),
    "pipeline": ({"contract": "auto"}, "/score"),
    "mlflow": ({"contract": "mlflow"}, "/score"),
    "openai": ({"contract": "openai"}, "/v1/chat/completions"),
}


def project_says(azure: FakeAzure) -> dict[str, str]:
    """What the project's connection says of the endpoint."""
    (found,) = [one for one in azure.store if one.kind.endswith("/connections")]
    says: dict[str, str] = found.properties["metadata"]
    return says


def ask_flow() -> Any:
    """The flow's answer on this machine."""
    from promptflow.client import PFClient

    return PFClient().test(flow=str(ROOT / "flows/chat"), inputs={"question": "Hello?"})["answer"]


@pytest.mark.parametrize("serves", FOUND)
def test_connection_says_what_the_smoke_found(
    azure: FakeAzure, recipe: AzureRecipe, serves: str
) -> None:
    azure.serves = serves
    deploy.run(AzureSession(recipe))
    assert traffic_of(azure) == {"tuned-blue": 100}
    connect.run(AzureSession(recipe))
    expected, path = FOUND[serves]
    assert expected.items() <= project_says(azure).items()
    azure.clear()
    values = {name: project_says(azure)[name] for name in ("endpoint", "contract")}
    key = endpoint_of(azure).hidden["primaryKey"]
    endpoint = Endpoint(Settings.from_values(values | {"key": key}))
    assert endpoint.complete([{"role": "user", "content": "Hello?"}]).text
    (sent,) = azure.find("POST .*inference.ml.azure.com")  # nothing is found out a second time
    assert sent.path == path
    assert "max_tokens" not in json.dumps(sent.body) or serves == "openai"
    azure.clear()
    assert not connect.run(AzureSession(recipe)).changed
    assert azure.writes == []


def test_fine_tune_without_vllm_is_chatted_with(azure: FakeAzure) -> None:
    """As a user goes, from the registered version to an answer of the flow."""
    make_workspace(azure)
    azure.serves = "pipeline"
    azure.answer = lambda *_: "Paris it is."
    for step in ("deploy", "connect"):
        ended = run(step, *RECIPE, "--yes")
        assert ended.code == 0, ended.err
    azure.clear()
    assert ask_flow() == "Paris it is."
    assert len(azure.find("POST .*inference.ml.azure.com")) == 1


def test_wrong_contract_in_the_recipe_has_a_way_out(azure: FakeAzure) -> None:
    recipe = make_workspace(azure, "endpoint.contract=score")
    azure.serves = "mlflow"
    line = str(fails(recipe))
    way_out = "deploy --recipe phi-azure --set endpoint.contract=score --set endpoint.contract=auto"
    assert f"Fix: it was asked by endpoint.contract score; python -m setup {way_out}" in line
    assert traffic_of(azure) == {}
    azure.clear()
    deploy.run(AzureSession(endpoint_with(recipe, contract="auto")))
    assert traffic_of(azure) == {"tuned-blue": 100}
    assert azure.find("PUT .*/deployments/") == []  # the same deployment, asked otherwise


def test_versions_of_different_contracts_share_a_connection(
    azure: FakeAzure, recipe: AzureRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A canary of another contract beside the old version: the shared connection finds it out."""
    azure.serves = {"tuned-blue": "score", "tuned-green": "mlflow"}
    deploy.run(AzureSession(recipe))
    register(azure, recipe, "2")
    deploy.run(AzureSession(endpoint_with(recipe, canary=10)))
    assert traffic_of(azure) == {"tuned-blue": 90, "tuned-green": 10}
    told = listen(monkeypatch)
    connect.run(AzureSession(recipe))
    assert project_says(azure)["contract"] == "auto"
    assert "do not answer by one contract" in told.getvalue()


def test_what_does_not_answer_is_left_to_the_flow(
    azure: FakeAzure, recipe: AzureRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy.run(AzureSession(recipe))
    azure.answer = lambda *_: {"error": "no luck today"}
    told = listen(monkeypatch)
    connect.run(AzureSession(recipe))
    said = told.getvalue()
    assert "tuned-blue does not answer" in said
    assert project_says(azure)["contract"] == "auto"
    assert endpoint_of(azure).hidden["primaryKey"] not in said
