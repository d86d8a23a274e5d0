"""The step ``finetune`` in Azure by the catalog's component: checked, paid for, found again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from setup.azure.client.session import AzureSession
from setup.azure.finetune import step as finetune
from setup.azure.finetune.attempts import job_name
from setup.azure.finetune.catalog_pipeline import component_inputs, find_component
from setup.common.errors import FixableError
from setup.data import prepare_data
from setup.data.plan import data_plan
from tests.azure.fake.contracts import Contracts
from tests.azure.fake.store import Resource
from tests.azure.trainable import PUT_JOB, Trainable, listen, only

if TYPE_CHECKING:
    from azure.ai.ml.entities import Component


def _sent(job: Resource) -> dict[str, Any]:
    """The inputs of the pipeline's one step, with references to the pipeline's own followed."""
    [step] = job.properties["jobs"].values()
    inputs: dict[str, Any] = step["inputs"]
    return {name: given.get("value", given.get("uri")) for name, given in inputs.items()}


def test_job_is_submitted_followed_and_found(
    cloud: Trainable, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = listen(monkeypatch)
    recipe = cloud.recipe()
    name = job_name(recipe, cloud.assets(recipe))
    assert finetune.plan(AzureSession(recipe))[0].endswith(f"as job {name}")
    assert (
        "at most 6 hours, then it is cancelled: 6.0 h of Standard_NC24ads_A100_v4, $$$"
        in (finetune.plan(AzureSession(recipe))[1])
    )
    assert cloud.azure.writes == []
    done = cloud.agreed(finetune.run, recipe)
    assert done.changed
    told = heard.getvalue()
    assert "a pipeline has no time limit" in told
    assert f"job {name}: Running, 0 of 1 steps done, finetuning running" in told
    assert f"job {name}: Completed, 1 of 1 steps done" in told
    job = only(cloud.jobs())
    assert job.id.name == name
    inputs = _sent(job)
    assert {inputs[key] for key in inputs if key.startswith("compute_")} == {"gpu-cluster"}
    assert {inputs[key] for key in inputs if key.startswith("instance_type_")} == {
        "Standard_NC24ads_A100_v4"
    }
    assert (inputs["num_nodes_finetune"], inputs["number_of_gpu_to_use_finetuning"]) == ("1", "1")
    assert inputs["mlflow_model_path"].endswith("registries/azureml/models/Phi-4/versions/8")
    assert not {"huggingface_id", "pytorch_model_path"} & set(inputs)
    assert (inputs["apply_lora"], inputs["precision"]) == ("true", "16")
    for part, asset in cloud.assets(recipe).items():
        assert inputs[f"{part}_file_path"].endswith(f"{asset.name}/versions/{asset.version}")
    assert job.properties["outputs"]["trained_model"]["jobOutputType"] == "mlflow_model"
    assert job.properties["settings"]["continue_on_step_failure"] is False
    [put] = cloud.azure.find(PUT_JOB)
    assert bool(put.contract) == Contracts().available
    assert cloud.azure.violations == []
    cloud.azure.clear()
    again = cloud.agreed(finetune.run, recipe)
    assert not again.changed
    assert name in again.detail
    assert "is completed" in finetune.plan(AzureSession(recipe))[0]
    assert cloud.azure.writes == []


def test_settings_and_data_decide_the_name(cloud: Trainable) -> None:
    recipe, assets = cloud.recipe(), cloud.assets(cloud.recipe())
    other = cloud.recipe("finetune.inputs.seed=1")
    more = cloud.recipe("finetune.max_hours=9", "endpoint.canary=10")
    assert job_name(recipe, assets) == job_name(more, assets)
    assert job_name(other, assets) != job_name(recipe, assets)
    assert job_name(recipe, {"train": assets["train"]}) != job_name(recipe, assets)


@pytest.fixture(scope="module")
def component(uploaded: Trainable) -> Component:
    return find_component(AzureSession(uploaded.recipe()))


def test_hugging_face_model_is_another_input(cloud: Trainable, component: Component) -> None:
    recipe = cloud.recipe("model.source=microsoft/Phi-4-mini-instruct")
    inputs = component_inputs(AzureSession(recipe), component, cloud.assets(recipe))
    assert inputs["huggingface_id"] == "microsoft/Phi-4-mini-instruct"
    assert "mlflow_model_path" not in inputs


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("finetune.inputs.compute_finetune=mine", "finetune.compute decides it"),
        ("finetune.inputs.huggingface_id=a/b", "model.source decides it"),
        ("finetune.inputs.train_file_path=a", "data decides it"),
        ("finetune.compute.sku=Standard_E4s_v3", "Standard_E4s_v3 has no GPU"),
        ("finetune.compute.sku=Standard_NoSuch", "does not offer Standard_NoSuch"),
    ],
)
def test_inputs_that_other_fields_decide(
    cloud: Trainable, component: Component, given: str, says: str
) -> None:
    recipe = cloud.recipe(given)
    with pytest.raises(FixableError, match=says):
        component_inputs(AzureSession(recipe), component, cloud.assets(recipe))


def test_types_and_bounds_of_the_published_component(
    cloud: Trainable, component: Component, contracts: Contracts
) -> None:
    """All that is wrong is in one line."""
    wrong = ["num_train_epochs=0", "lora_alpha=1.5", "learning_rate=fast"]
    recipe = cloud.recipe(*(f"finetune.inputs.{one}" for one in wrong))
    with pytest.raises(FixableError, match="refuses") as caught:
        component_inputs(AzureSession(recipe), component, cloud.assets(recipe))
    assert "num_train_epochs is 0, less than 1" in caught.value.what
    assert "lora_alpha is 1.5, not of type integer" in caught.value.what
    assert "learning_rate is 'fast', not of type number" in caught.value.what


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("finetune.inputs.precision='8'", "precision is '8', not one of 32, 16"),
        ("finetune.inputs.lora_rank=8", "lora_rank is not one of its inputs, lora_r is"),
        ("finetune.component_version=9.9.9", "has no component chat_completion_pipeline 9.9.9"),
        ("finetune.compute.name=none", "has no cluster none"),
        ("finetune.compute.name=cpu-cluster", "of Standard_E4s_v3, the recipe says Standard_NC"),
        ("finetune.compute.nodes=2", "of at most 1 nodes, the recipe says 2"),
        ("model.source=azureml://registries/azureml/models/Phi-9/versions/1", "not in registry"),
        ("data.seed=11", "has no data asset phi-azure-train"),
    ],
)
def test_refused_before_anything_is_written(cloud: Trainable, given: str, says: str) -> None:
    recipe = cloud.recipe(given)
    prepare_data(data_plan(recipe))
    try:
        assert says in str(cloud.refused(recipe))
    finally:
        prepare_data(data_plan(cloud.recipe()))
    assert cloud.azure.writes == []


def test_nothing_is_paid_for_unasked(cloud: Trainable) -> None:
    with pytest.raises(FixableError, match=r"gpu-cluster.*\$\$\$ an hour") as caught:
        finetune.run(AzureSession(cloud.recipe()))
    assert "--yes" in caught.value.fix
    assert cloud.azure.writes == []


def test_no_data_names_the_step(cloud: Trainable) -> None:
    error = cloud.refused(cloud.recipe(f"data.out={cloud.folder / 'nowhere'}"))
    assert error.fix.startswith("python -m setup data --recipe phi-azure")


def test_submitting_outlives_faults(cloud: Trainable) -> None:
    for how in ("throttled", "unavailable", "lost"):
        cloud.azure.fail(PUT_JOB, how=how)
    unasked = cloud.azure.fail(r"GET .*/registries/azureml/models/", times=99, how="forbidden")
    assert cloud.agreed(finetune.run, cloud.recipe()).changed
    assert unasked.met  # the registry advises: without its word the job goes on
    unasked.times = 0
    assert len(cloud.jobs()) == 1


def test_submission_refused_is_one_line(cloud: Trainable) -> None:
    fault = cloud.azure.fail(PUT_JOB, times=99, how="quota")
    error = cloud.refused(cloud.recipe())
    fault.times = 0
    assert "QuotaExceeded" in error.what
    assert "python -m setup quota" in error.fix
    assert cloud.jobs() == []
