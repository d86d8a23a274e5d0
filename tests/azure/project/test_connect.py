"""The step ``connect`` in Azure: the project's connection and this machine's, read as flows do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.chat.scoring_client import Endpoint, Settings
from setup.azure.client.money import answered
from setup.azure.client.session import AzureSession
from setup.azure.deploy import step as deploy
from setup.azure.project import connections as connect
from setup.common.errors import FixableError
from setup.common.promptflow_store import keep_connections
from setup.recipe.azure import AzureRecipe
from tests.azure.fake import FakeAzure
from tests.azure.fake.subscription import SUBSCRIPTION
from tests.azure.serving import endpoint_of, make_workspace
from tests.scripted.pf_home import isolated_home

PF_HOME = isolated_home()  # before the first import of promptflow
NAME = "phi-in-azure"  # not the name that other tests of this process use


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own."""
    monkeypatch.setenv("FINETUNE_PHI_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def recipe(azure: FakeAzure) -> Iterator[AzureRecipe]:
    """phi-azure, deployed."""
    made = make_workspace(azure, f"connection={NAME}")
    with answered(True):
        deploy.run(AzureSession(made))
    azure.clear()
    yield made
    client = local_client()
    for one in client.connections.list():
        if one.name.startswith(NAME):
            client.connections.delete(one.name)


def local_client() -> Any:
    """Prompt flow on this machine."""
    from promptflow.client import PFClient

    return PFClient()


def read_in_project(recipe: AzureRecipe) -> Any:
    """The connection, as Prompt flow gives it to a flow in the project."""
    from azure.identity import DefaultAzureCredential
    from promptflow.core._connection_provider._workspace_connection_provider import (
        WorkspaceConnectionProvider,
    )

    place = (SUBSCRIPTION, recipe.azure.resource_group, recipe.azure.project)
    return WorkspaceConnectionProvider(*place, DefaultAzureCredential()).get(NAME)


def connection_of(azure: FakeAzure) -> Any:
    """The one connection."""
    (found,) = [one for one in azure.store if one.kind.endswith("/connections")]
    return found


def test_flows_reach_the_endpoint(
    azure: FakeAzure, recipe: AzureRecipe, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key = endpoint_of(azure).hidden["primaryKey"]
    assert f"make connection {NAME} of project phi-project" in connect.plan(AzureSession(recipe))[0]
    assert azure.writes == []
    result = connect.run(AzureSession(recipe))
    assert result.changed
    assert result.next.startswith("python -m setup upload --recipe phi-azure")
    assert [one.path.rpartition("/")[2] for one in azure.writes] == [NAME]
    assert azure.violations == []
    here = local_client().connections
    for found, deployment in (
        (read_in_project(recipe), ""),
        (here.get(NAME, with_secrets=True), ""),
        (here.get(f"{NAME}-tuned-blue", with_secrets=True), "tuned-blue"),
    ):
        assert dict(found.secrets) == {"key": key}
        settings = Settings.from_connection(found)
        assert settings.endpoint == endpoint_of(azure).properties["scoringUri"]
        assert (settings.context_window, settings.system_role) == (16384, "native")
        assert (settings.timeout, settings.concurrency) == (180, 8)
        assert settings.deployment == deployment
        reply = Endpoint(settings).complete([{"role": "user", "content": "hello"}])
        assert reply.text == "tuned-blue was asked: hello"
    azure.clear()
    assert not connect.run(AzureSession(recipe)).changed
    assert azure.writes == []
    assert "check connection" in connect.plan(AzureSession(recipe))[0]
    files = [path for folder in (home, PF_HOME) for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 3
    assert [path for path in files if key.encode() in path.read_bytes()] == []
    assert key not in caplog.text + str(result)


def test_project_gets_what_the_portal_lists(azure: FakeAzure, recipe: AzureRecipe) -> None:
    connect.run(AzureSession(recipe))
    given = connection_of(azure).properties
    assert (given["category"], given["authType"], given["target"]) == ("CustomKeys",) * 2 + ("_",)
    assert given["isSharedToAll"] is False
    assert given["metadata"]["azureml.flow.connection_type"] == "Custom"
    assert given["metadata"]["azureml.flow.module"] == "promptflow.connections"
    assert all(isinstance(value, str) for value in given["metadata"].values())


def test_what_has_changed_is_corrected(azure: FakeAzure, recipe: AzureRecipe) -> None:
    connect.run(AzureSession(recipe))
    endpoint, elsewhere = endpoint_of(azure), "https://elsewhere.eastus2.inference.ml.azure.com"
    changes: list[Callable[[dict[str, Any]], Any]] = [
        lambda _: endpoint.hidden.update(primaryKey="another-key"),
        lambda metadata: metadata.update(endpoint=f"{elsewhere}/score"),
        lambda metadata: metadata.pop("azureml.flow.module"),
    ]
    for change in changes:
        change(connection_of(azure).properties["metadata"])
        azure.clear()
        assert connect.run(AzureSession(recipe)).changed
        assert len(azure.writes) == 1
        assert read_in_project(recipe).secrets["key"] == endpoint.hidden["primaryKey"]
    assert not connect.run(AzureSession(recipe)).changed
    here = local_client().connections.get(f"{NAME}-tuned-blue", with_secrets=True)
    assert dict(here.secrets) == {"key": "another-key"}


def test_connection_of_a_deleted_deployment_is_removed(
    azure: FakeAzure, recipe: AzureRecipe
) -> None:
    uri = endpoint_of(azure).properties["scoringUri"]
    made = {
        f"{NAME}-tuned-0": {"endpoint": uri, "deployment": "tuned-0"},
        f"{NAME}-tuned-9": {"endpoint": "https://elsewhere/score", "deployment": "tuned-9"},
        f"{NAME}-of-mine": {"endpoint": uri, "deployment": "tuned-0"},
        f"{NAME}-": {"endpoint": uri},
    }
    keep_connections(made, {"key": "x"})
    assert "deployments that are gone are removed" in connect.plan(AzureSession(recipe))[1]
    done = connect.run(AzureSession(recipe))
    assert done.changed
    assert f"removed {NAME}-tuned-0 from this machine" in done.detail
    here = {one.name for one in local_client().connections.list() if one.name.startswith(NAME)}
    assert here == {*made, NAME, f"{NAME}-tuned-blue"} - {f"{NAME}-tuned-0"}
    again = connect.run(AzureSession(recipe))
    assert not again.changed
    assert "removed" not in again.detail


def test_what_cannot_be_connected(azure: FakeAzure, recipe: AzureRecipe) -> None:
    key = endpoint_of(azure).hidden["primaryKey"]
    azure.fail("POST .*/listsecrets", times=1, how="forbidden")
    with pytest.raises(FixableError, match="cannot read connection") as refused:
        connect.run(AzureSession(recipe))
    assert key not in str(refused.value)
    assert "ten minutes" in refused.value.fix
    assert connect.run(AzureSession(recipe)).changed  # this machine's are left to do
    project = recipe.azure.model_copy(update={"project": "none"})
    with pytest.raises(FixableError, match="none") as missing:
        connect.run(AzureSession(recipe.model_copy(update={"azure": project})))
    assert "provision" in missing.value.fix
    azure.store.delete(endpoint_of(azure).id.text)
    with pytest.raises(FixableError, match="has no endpoint") as gone:
        connect.run(AzureSession(recipe))
    assert gone.value.fix.startswith("python -m setup deploy --recipe phi-azure")
