"""Jobs and models, driven by azure-ai-ml: the catalog's pipeline and a command of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from azure.ai.ml import Input, MLClient, Output, command, dsl
from azure.ai.ml.entities import Environment, Job, Model
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential

from tests.azure.fake import FakeAzure
from tests.azure.fake.ready import add_compute, add_workspace
from tests.azure.fake.subscription import SUBSCRIPTION

SIZE = "Standard_NC24ads_A100_v4"
_NO_CLUSTER = {"compute_finetune": "none"}


@pytest.fixture
def ml(azure: FakeAzure) -> MLClient:
    """A client of a workspace with a cluster ``gpu``."""
    add_compute(azure, add_workspace(azure, "ws", "rg"), "gpu", SIZE)
    return MLClient(DefaultAzureCredential(), SUBSCRIPTION, "rg", "ws")


def pipeline(tmp_path: Path, **inputs: Any) -> Job:
    """The catalog's fine-tuning on a small file."""
    rows = tmp_path / "train.jsonl"
    rows.write_text('{"messages": []}\n')
    catalog = MLClient(DefaultAzureCredential(), registry_name="azureml")
    component = catalog.components.get("chat_completion_pipeline", version="0.0.82")
    computes = ("model_import", "preprocess", "finetune", "model_evaluation")
    given = {
        "mlflow_model_path": Input(
            type="mlflow_model", path="azureml://registries/azureml/models/Phi-4/versions/8"
        ),
        "train_file_path": Input(type="uri_file", path=str(rows)),
        "validation_file_path": Input(type="uri_file", path=str(rows)),
        "apply_lora": "true",
        **{f"compute_{name}": "gpu" for name in computes},
        **inputs,
    }

    @dsl.pipeline(name="tune")  # type: ignore[call-overload, untyped-decorator]
    def build() -> Any:
        node = component(**given)
        return {"trained_model": node.outputs.mlflow_model_folder}

    job = build()
    job.outputs.trained_model.type = "mlflow_model"
    job.name = "tune-1"
    return job  # type: ignore[no-any-return]


def test_catalog_has_models(azure: FakeAzure) -> None:
    catalog = MLClient(DefaultAzureCredential(), registry_name="azureml")
    assert catalog.models.get("Phi-4", version="8").type == "mlflow_model"
    with pytest.raises(ResourceNotFoundError):
        catalog.models.get("Phi-9", version="1")
    with pytest.raises(ResourceNotFoundError):
        catalog.components.get("chat_completion_pipeline", version="9.9.9")


def test_pipeline_runs_and_becomes_a_model(azure: FakeAzure, ml: MLClient, tmp_path: Path) -> None:
    assert ml.jobs.create_or_update(pipeline(tmp_path)).status == "Queued"
    assert [ml.jobs.get("tune-1").status for _ in range(3)] == ["Running", "Completed", "Completed"]
    path = "azureml://jobs/tune-1/outputs/trained_model"
    model = Model(name="phi", path=path, type="mlflow_model")
    assert ml.models.create_or_update(model).version == "1"
    assert ml.models.get("phi", label="latest").job_name == "tune-1"
    ml.jobs.download("tune-1", download_path=tmp_path, output_name="trained_model")
    assert list(tmp_path.rglob("MLmodel"))
    assert azure.violations == []
    wrong = Model(name="phi", path="azureml://jobs/tune-1/outputs/none", type="mlflow_model")
    with pytest.raises(HttpResponseError, match="no output none"):
        ml.models.create_or_update(wrong)


def test_pipeline_with_a_wrong_input_is_refused(
    azure: FakeAzure, ml: MLClient, tmp_path: Path
) -> None:
    wrong = {"precision: '8' is none of": {"precision": "8"}, "computes/none": _NO_CLUSTER}
    for reason, inputs in wrong.items():
        with pytest.raises(HttpResponseError, match=reason):
            ml.jobs.create_or_update(pipeline(tmp_path, **inputs))


def our_command(tmp_path: Path) -> Any:
    """A command job with code of its own."""
    code = tmp_path / "code"
    code.mkdir(exist_ok=True)
    (code / "train.py").write_text("print('training')\n")
    return command(
        name="own-1",
        code=str(code),
        command="python train.py --out ${{outputs.model}}",
        environment=Environment(name="train", version="1", image="python:3.11"),
        compute="gpu",
        outputs={"model": Output(type="uri_folder")},
    )


def test_failed_job_shows_its_log(
    azure: FakeAzure, ml: MLClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    azure.fail_resource("/jobs/own-1$", "CUDA out of memory", code="UserError")
    ml.jobs.create_or_update(our_command(tmp_path))
    assert ml.jobs.get("own-1").status == "Running"
    with pytest.raises(Exception, match="CUDA out of memory"):
        ml.jobs.stream("own-1")
    ml.jobs.download("own-1", download_path=tmp_path / "down", all=True)
    log = next((tmp_path / "down").rglob("std_log.txt"))
    assert "CUDA out of memory" in log.read_text()
    assert azure.violations == []


def test_job_is_cancelled(azure: FakeAzure, ml: MLClient, tmp_path: Path) -> None:
    ml.jobs.create_or_update(our_command(tmp_path))
    ml.jobs.begin_cancel("own-1").wait()
    assert ml.jobs.get("own-1").status == "Canceled"
    with pytest.raises(HttpResponseError, match="already"):
        ml.jobs.begin_cancel("own-1")
