"""The step ``register`` in Azure: one version for each completed job, with what made it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from setup.azure.client.session import AzureSession
from setup.azure.data import step as data
from setup.azure.deploy import registration as register
from setup.azure.deploy.registration import find_version, need_version
from setup.azure.finetune import step as finetune
from setup.common.errors import FixableError
from tests.azure.fake.store import Resource
from tests.azure.trainable import Trainable, trainable

PUT_MODEL = r"PUT .*/models/phi-azure/versions/"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainable]:
    with trainable(tmp_path_factory.mktemp("azure")) as found:
        data.run(AzureSession(found.recipe()))
        found.agreed(finetune.run, found.recipe())
        yield found


@pytest.fixture
def cloud(trained: Trainable) -> Trainable:
    """A job is completed, no model is registered."""
    trained.forget("models")
    return trained


def _versions(cloud: Trainable) -> list[Resource]:
    return cloud.azure.store.children(f"{cloud.workspace}/models/phi-azure/versions")


def test_version_says_what_made_it(cloud: Trainable) -> None:
    recipe = cloud.recipe()
    job = cloud.jobs()[0]
    step = f"{job.id.name}..finetuning"
    logged = {"eval_loss": 0.25, "train_loss": 0.5, "epoch": 3.0}
    job.hidden["metrics"] = {step: [{"key": k, "value": v} for k, v in logged.items()]}
    assert "register the output of job" in register.plan(AzureSession(recipe))[0]
    assert cloud.azure.writes == []
    done = register.run(AzureSession(recipe))
    assert done.changed
    assert "eval_loss 0.2500, train_loss 0.5000" in done.detail
    [version] = _versions(cloud)
    body = version.properties
    assert body["modelType"] == "mlflow_model"
    assert version.hidden["uri"] == f"azureml://jobs/{job.id.name}/outputs/trained_model"
    assets = cloud.assets(recipe)
    assert body["tags"] == {
        **recipe.azure.tags,
        "job": job.id.name,
        "model": recipe.model.source,
        "data_train": str(assets["train"]),
        "data_validation": str(assets["validation"]),
        "eval_loss": "0.2500",
        "train_loss": "0.5000",
    }
    assert cloud.azure.violations == []
    listed = cloud.azure.find(r"GET .*/models/phi-azure/versions$")
    views = {one.query.get("listViewType") for one in listed}
    assert "All" in views  # the number of an archived one is taken
    cloud.azure.clear()
    again = register.run(AzureSession(recipe))
    assert not again.changed
    assert "version 1 of phi-azure" in again.detail
    assert "version 1 of phi-azure is job" in register.plan(AzureSession(recipe))[0]
    assert cloud.azure.writes == []


def test_next_job_is_the_next_version(cloud: Trainable) -> None:
    register.run(AzureSession(cloud.recipe()))
    other = cloud.recipe("finetune.inputs.seed=1")
    cloud.agreed(finetune.run, other)
    assert "version 2 of phi-azure" in register.run(AzureSession(other)).detail
    assert "version 1 of phi-azure" in register.run(AzureSession(cloud.recipe())).detail
    found = [need_version(AzureSession(recipe)) for recipe in (cloud.recipe(), other)]
    assert [(one.version, one.why) for one in found] == [("1", ""), ("2", "")]


def test_version_of_no_job_of_the_recipe_is_said(cloud: Trainable) -> None:
    recipe, other = cloud.recipe(), cloud.recipe("finetune.inputs.seed=7")
    assert find_version(AzureSession(recipe)) is None
    register.run(AzureSession(recipe))
    newest = need_version(AzureSession(other))
    assert newest.version == "1"
    assert newest.why == "no job of this recipe and data: this is the newest version"
    cloud.store("models", "phi-azure/versions/1").properties["tags"].clear()
    said = need_version(AzureSession(recipe)).why
    assert re.match(r"job phi-azure-\w+ is not registered \(python -m setup register", said)
    with pytest.raises(FixableError, match=r"of type mlflow_model, and endpoint.kind gguf"):
        need_version(AzureSession(cloud.recipe("registry.model=phi-azure", route="own")))


def test_lost_answer_makes_no_second_version(cloud: Trainable) -> None:
    cloud.azure.fail(PUT_MODEL, how="lost")
    register.run(AzureSession(cloud.recipe()))
    assert not register.run(AzureSession(cloud.recipe())).changed
    assert len(_versions(cloud)) == 1


def test_losses_that_cannot_be_read_do_not_matter(cloud: Trainable) -> None:
    cloud.azure.fail(r"/mlflow/", times=99, how="forbidden")
    assert register.run(AzureSession(cloud.recipe())).changed


def test_refusal_is_one_line(cloud: Trainable) -> None:
    cloud.azure.fail(PUT_MODEL, how="forbidden")
    with pytest.raises(FixableError, match=r"registering the output of job phi-azure-.*: Azure"):
        register.run(AzureSession(cloud.recipe()))
    assert register.run(AzureSession(cloud.recipe())).changed


@pytest.mark.parametrize("status", ["Queued", "Failed"])
def test_job_that_is_not_completed(
    cloud: Trainable, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    job = cloud.jobs()[0]
    monkeypatch.setitem(job.properties, "status", status)
    with pytest.raises(FixableError, match=f"is {status}") as caught:
        register.run(AzureSession(cloud.recipe()))
    assert caught.value.fix.startswith("python -m setup finetune --recipe phi-azure")
    assert "register the job's output" in register.plan(AzureSession(cloud.recipe()))[0]


def test_no_job_at_all(cloud: Trainable) -> None:
    with pytest.raises(FixableError, match="no job of this recipe and data yet"):
        register.run(AzureSession(cloud.recipe("finetune.inputs.seed=7")))
