"""The step ``finetune`` in Azure by the catalog's component: checked, paid for, followed, found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from setup.azure import data, finetune, follow
from setup.azure.attempts import job_name
from setup.azure.catalog import component_inputs, find_component
from setup.azure.recipe import AzureRecipe
from setup.azure.session import AzureSession
from setup.data import prepare_data
from setup.errors import FixableError
from tests.azure.fake.contracts import Contracts
from tests.azure.fake.store import Resource
from tests.azure.trainable import Trainable, listen, trainable

PUT_JOB, DETAILS = r"PUT .*/jobs/", r"GET .*/history/.*/details"


@pytest.fixture(scope="module")
def uploaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainable]:
    with trainable(tmp_path_factory.mktemp("azure")) as found:
        data.run(found.recipe())
        yield found


@pytest.fixture
def cloud(uploaded: Trainable) -> Trainable:
    """The data is there, no job is."""
    uploaded.forget("jobs")
    uploaded.azure.job_states = ["Queued", "Running", "Completed"]
    return uploaded


def _only(jobs: list[Resource]) -> Resource:
    [job] = jobs
    return job


def _sent(job: Resource) -> dict[str, Any]:
    """The inputs of the pipeline's one step, with references to the pipeline's own followed."""
    [step] = job.properties["jobs"].values()
    inputs: dict[str, Any] = step["inputs"]
    return {name: given.get("value", given.get("uri")) for name, given in inputs.items()}


def _refused(cloud: Trainable, recipe: AzureRecipe) -> FixableError:
    with pytest.raises(FixableError) as caught:
        cloud.agreed(finetune.run, recipe)
    assert "\n" not in str(caught.value)
    return caught.value


def test_job_is_submitted_followed_and_found(
    cloud: Trainable, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = listen(monkeypatch)
    recipe = cloud.recipe()
    name = job_name(recipe, cloud.assets(recipe))
    assert finetune.plan(recipe)[0].endswith(f"as job {name}")
    assert "$$$ an hour while the job runs, at most 6 hours" in finetune.plan(recipe)[1]
    assert cloud.azure.writes == []
    done = cloud.agreed(finetune.run, recipe)
    assert done.changed
    told = heard.getvalue()
    assert "a pipeline has no time limit" in told
    assert f"job {name}: Running, 0 of 1 steps done, finetuning running" in told
    assert f"job {name}: Completed, 1 of 1 steps done" in told
    job = _only(cloud.jobs())
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
    [put] = cloud.azure.find(PUT_JOB)
    assert bool(put.contract) == Contracts().available
    assert cloud.azure.violations == []
    cloud.azure.clear()
    again = cloud.agreed(finetune.run, recipe)
    assert not again.changed
    assert name in again.detail
    assert "is completed" in finetune.plan(recipe)[0]
    assert cloud.azure.writes == []


def test_settings_and_data_decide_the_name(cloud: Trainable) -> None:
    recipe, assets = cloud.recipe(), cloud.assets(cloud.recipe())
    other = cloud.recipe("finetune.inputs.seed=1")
    more = cloud.recipe("finetune.max_hours=9", "endpoint.canary=10")
    assert job_name(recipe, assets) == job_name(more, assets)
    assert job_name(other, assets) != job_name(recipe, assets)
    assert job_name(recipe, {"train": assets["train"]}) != job_name(recipe, assets)


def test_hugging_face_model_is_another_input(cloud: Trainable) -> None:
    recipe = cloud.recipe("model.source=microsoft/Phi-4-mini-instruct")
    session = AzureSession(recipe)
    inputs = component_inputs(session, find_component(session), cloud.assets(recipe))
    assert inputs["huggingface_id"] == "microsoft/Phi-4-mini-instruct"
    assert "mlflow_model_path" not in inputs


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("finetune.inputs.precision='8'", "precision is '8', not one of 32, 16"),
        ("finetune.inputs.lora_rank=8", "lora_rank is not one of its inputs, lora_r is"),
        ("finetune.inputs.compute_finetune=mine", "finetune.compute decides it"),
        ("finetune.inputs.huggingface_id=a/b", "model.source decides it"),
        ("finetune.inputs.train_file_path=a", "data decides it"),
        ("finetune.component_version=9.9.9", "has no component chat_completion_pipeline 9.9.9"),
        ("finetune.compute.name=none", "has no cluster none"),
        ("finetune.compute.sku=Standard_E4s_v3", "Standard_E4s_v3 has no GPU"),
        ("finetune.compute.sku=Standard_NoSuch", "does not offer Standard_NoSuch"),
        ("model.source=azureml://registries/azureml/models/Phi-9/versions/1", "not in registry"),
        ("data.seed=11", "has no data asset phi-azure-train"),
    ],
)
def test_refused_before_anything_is_written(cloud: Trainable, given: str, says: str) -> None:
    recipe = cloud.recipe(given)
    prepare_data(data.data_plan(recipe))
    try:
        assert says in str(_refused(cloud, recipe))
    finally:
        prepare_data(data.data_plan(cloud.recipe()))
    assert cloud.azure.writes == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("finetune.inputs.num_train_epochs=0", "num_train_epochs is 0, less than 1"),
        ("finetune.inputs.num_train_epochs=1.5", "num_train_epochs is 1.5, not of type integer"),
        ("finetune.inputs.learning_rate=fast", "learning_rate is 'fast', not of type number"),
    ],
)
def test_types_and_bounds_of_the_published_component(
    cloud: Trainable, contracts: Contracts, given: str, says: str
) -> None:
    assert says in str(_refused(cloud, cloud.recipe(given)))
    assert cloud.azure.writes == []


def test_nothing_is_paid_for_unasked(cloud: Trainable) -> None:
    with pytest.raises(FixableError, match=r"gpu-cluster.*\$\$\$ an hour") as caught:
        finetune.run(cloud.recipe())
    assert "--yes" in caught.value.fix
    assert cloud.azure.writes == []


def test_no_data_names_the_step(cloud: Trainable) -> None:
    error = _refused(cloud, cloud.recipe(f"data.out={cloud.folder / 'nowhere'}"))
    assert error.fix == "python -m setup data --recipe phi-azure"


def test_closed_terminal_and_ctrl_c(cloud: Trainable, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = listen(monkeypatch)
    cloud.azure.job_states = ["Queued", *["Running"] * 4, "Completed"]  # each look is one further

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("setup.azure.follow.sleep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            cloud.agreed(finetune.run, cloud.recipe())
    told = heard.getvalue()
    assert "goes on in Azure, and costs; the same command follows it" in told
    assert "az ml job cancel --name phi-azure-" in told
    assert "follow job" in finetune.plan(cloud.recipe())[0]
    assert finetune.run(cloud.recipe()).changed  # asks for nothing: it is paid for already
    assert len(cloud.azure.find(PUT_JOB)) == 1


def test_failed_job_shows_its_log_and_is_tried_again(
    cloud: Trainable, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = listen(monkeypatch)
    recipe = cloud.recipe()
    name = job_name(recipe, cloud.assets(recipe))
    for attempt in (name, f"{name}-2"):
        cloud.azure.fail_resource(f"/jobs/{attempt}$", "Strange thing", code="UserError")
    lines = [f"step {number}" for number in range(40)]
    lines += ["torch.OutOfMemoryError: CUDA out of memory. sig=SECRET", "exit"]
    cloud.log(f"{name}..finetuning", "\n".join(lines))
    error = _refused(cloud, recipe)
    assert f"job {name} failed in step finetuning: the GPU has too little memory" in error.what
    assert "finetune.compute.sku" in error.fix
    told = heard.getvalue()
    assert "the end of user_logs/std_log.txt of finetuning:" in told
    assert "step 39" in told
    assert "step 10" not in told
    assert "SECRET" not in told + str(error)
    again = _refused(cloud, recipe)  # this one leaves no log
    assert f"job {name}-2 failed in step finetuning: UserError: Strange thing" in again.what
    assert f"the last attempt: job {name} failed in step" in heard.getvalue()
    assert cloud.agreed(finetune.run, recipe).changed
    assert [job.id.name for job in cloud.jobs()] == [name, f"{name}-2", f"{name}-3"]
    assert not cloud.agreed(finetune.run, recipe).changed


def test_cancelled_job_is_tried_again(cloud: Trainable) -> None:
    cloud.azure.job_states = ["Queued", "Running", "Canceled"]
    assert "was cancelled" in _refused(cloud, cloud.recipe()).what
    cloud.azure.job_states = ["Queued", "Completed"]
    assert cloud.agreed(finetune.run, cloud.recipe()).changed
    assert len(cloud.jobs()) == 2


def test_pipeline_that_runs_too_long_is_ended(cloud: Trainable) -> None:
    cloud.azure.job_states = ["Queued", *["Running"] * 50]
    error = _refused(cloud, cloud.recipe("finetune.max_hours=0.00000001"))
    assert "ran longer than finetune.max_hours" in error.what
    assert len(cloud.azure.find(r"POST .*/jobs/.*/cancel")) == 1
    assert _only(cloud.jobs()).properties["status"] in ("CancelRequested", "Canceled")


def test_cluster_without_quota_is_told_after_a_while(
    cloud: Trainable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "_PATIENCE", 3)
    cluster = cloud.store("computes", "gpu-cluster").properties["properties"]
    message = "Operation results in exceeding quota limits of Total Cluster Dedicated Cores."
    cluster["errors"] = [{"error": {"code": "ClusterMinNodesExceedCoreQuota", "message": message}}]
    cloud.azure.job_states = ["Queued"]
    error = _refused(cloud, cloud.recipe())
    assert "gets no machine: ClusterMinNodesExceedCoreQuota" in error.what
    assert "python -m setup quota" in error.fix
    assert (
        "the job waits for free, python -m setup finetune --recipe phi-azure follows" in error.fix
    )
    del cluster["errors"]
    _only(cloud.jobs()).hidden["states"] = ["Queued", "Running", "Completed"]
    assert cloud.agreed(finetune.run, cloud.recipe()).changed
    assert len(cloud.jobs()) == 1


def test_following_outlives_faults(cloud: Trainable) -> None:
    for how, times in {"dropped": 5, "unavailable": 5, "throttled": 5, "token": 1}.items():
        cloud.azure.fail(DETAILS, times=times, how=how)
        cloud.azure.fail(r"GET .*/children", how=how)
    assert cloud.agreed(finetune.run, cloud.recipe()).changed
    assert len(cloud.jobs()) == 1


def test_tokens_that_expire_are_renewed(cloud: Trainable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("setup.azure.follow.sleep", lambda _: cloud.azure.login.expire())
    assert cloud.agreed(finetune.run, cloud.recipe()).changed


def test_connection_that_stays_away_is_one_line(
    cloud: Trainable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "_LOST", 3)
    fault = cloud.azure.fail(DETAILS, times=999, how="dropped")
    error = _refused(cloud, cloud.recipe())
    fault.times = 0
    assert re.search(r"following job phi-azure-\w+: the connection to Azure failed", error.what)
    assert "the job goes on: python -m setup finetune --recipe phi-azure follows it" in error.fix
    assert cloud.agreed(finetune.run, cloud.recipe()).changed
    assert len(cloud.jobs()) == 1


def test_submitting_outlives_faults(cloud: Trainable) -> None:
    for how in ("throttled", "unavailable", "lost"):
        cloud.azure.fail(PUT_JOB, how=how)
    assert cloud.agreed(finetune.run, cloud.recipe()).changed
    assert len(cloud.jobs()) == 1


def test_submission_refused_is_one_line(cloud: Trainable) -> None:
    fault = cloud.azure.fail(PUT_JOB, times=99, how="quota")
    error = _refused(cloud, cloud.recipe())
    fault.times = 0
    assert "QuotaExceeded" in error.what
    assert "python -m setup quota" in error.fix
    assert cloud.jobs() == []
