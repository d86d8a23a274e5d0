"""Our own trainer as a command job: its code, its command line, what it leaves."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from setup.azure.client.session import AzureSession
from setup.azure.data import step as data
from setup.azure.deploy import registration as register
from setup.azure.finetune import job_output, own_job
from setup.azure.finetune import step as finetune
from setup.azure.finetune.attempts import job_name
from setup.azure.finetune.follow import what_went_wrong
from setup.common.errors import FixableError
from setup.data.plan import data_plan
from setup.finetune.run.run_folder import run_folder
from setup.recipe.local import Training
from setup.weights.adapter import CONFIG, WEIGHTS
from setup.weights.fetch import model_sha256
from setup.weights.gguf_file import open_gguf
from tests.azure.trainable import Trainable, trainable
from tests.blob_mount import refusing

_SHAPE = (32, 64)  # of a matrix: out, in


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainable]:
    with trainable(tmp_path_factory.mktemp("azure")) as found:
        data.run(AzureSession(found.recipe(route="own")))
        yield found


def test_job_is_submitted_and_registered(cloud: Trainable) -> None:
    recipe = cloud.recipe(route="own")
    assert cloud.agreed(finetune.run, recipe).changed
    [job] = cloud.jobs()
    sent = job.hidden["sent"]
    assert sent["command"] == own_job.job_command(1, 0)
    assert sent["limits"]["timeout"] == "PT2H"
    assert sent["resources"]["instanceCount"] == 1
    assert sent["distribution"] == {"distributionType": "PyTorch", "processCountPerInstance": 1}
    assert sent["computeId"].endswith("/computes/cpu-cluster")
    [asset] = cloud.assets(recipe).values()
    assert sent["inputs"]["train"]["uri"].endswith(f"{asset.name}/versions/{asset.version}")
    assert set(sent["outputs"]) == {"trained_model", "adapter", "work"}
    assert cloud.azure.violations == []
    done = register.run(AzureSession(recipe))
    assert done.changed
    assert cloud.store("models", "gguf-azure/versions/1").properties["modelType"] == "custom_model"
    cloud.azure.clear()
    assert not finetune.run(AzureSession(recipe)).changed
    assert not register.run(AzureSession(recipe)).changed
    assert cloud.azure.writes == []


def test_attempts_share_their_checkpoints(cloud: Trainable) -> None:
    cloud.forget("jobs")
    recipe = cloud.recipe("model.context_window=1024", route="own")
    name = job_name(recipe, cloud.assets(recipe))
    cloud.azure.fail_resource(f"/jobs/{name}$", "Preempted", code="UserError")
    with pytest.raises(FixableError):
        cloud.agreed(finetune.run, recipe)
    assert cloud.agreed(finetune.run, recipe).changed
    first, second = (job.hidden["sent"]["outputs"]["work"]["uri"] for job in cloud.jobs())
    assert first == second
    assert first.endswith(f"/datastores/workspaceblobstore/paths/finetune-phi/{name}/")


def test_checkpoints_of_another_sharding_lie_elsewhere(cloud: Trainable) -> None:
    places = []
    for sharding in ("none", "full_shard"):
        recipe = cloud.recipe(f"finetune.trainer.sharding={sharding}", route="own")
        job = own_job.command_job(recipe, Path(), "environment", cloud.assets(recipe), 2)
        places.append(job.outputs["work"].path)
    assert places[1] == f"{places[0].rstrip('/')}-full_shard/"


def _fake_torch(folder: Path, version: str, finds: bool) -> dict[str, str]:
    """The environment of a Python with a torch of ``version`` on a machine with four GPUs."""
    (folder / "torch").mkdir(exist_ok=True)
    (folder / "torch/__init__.py").write_text(
        f"from torch import cuda\n__version__ = {version!r}\n"
    )
    there = f"def is_available(): return {finds}\ndef device_count(): return 4\n"
    (folder / "torch/cuda.py").write_text(there)
    smi = folder / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 535.104.05\n")
    smi.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PYTHONPATH": str(folder), "PATH": path}


@pytest.mark.parametrize(
    ("version", "cause", "fix"),
    [
        ("2.13.0+cu130", "torch and the driver", "finetune.torch_index=https"),
        ("2.13.0+cpu", "torch and the driver", "finetune.torch_index=https"),
        ("2.13.0+cu126", "fewer GPUs than its SKU says", "finetune.compute.sku="),
    ],
)
def test_job_without_its_gpus_ends_at_once(
    cloud: Trainable, tmp_path: Path, version: str, cause: str, fix: str
) -> None:
    """With a torch whose driver is too old."""
    check = own_job.job_command(1, 4).split(" && ")[0]
    environment = _fake_torch(tmp_path, version, finds=False)
    done = subprocess.run(["bash", "-c", check], env=environment, capture_output=True, check=False)
    line = done.stderr.decode().strip()
    assert done.returncode == 1
    assert line == f"error: torch {version} finds 0 GPUs, not 4; driver 535.104.05"
    session = AzureSession(cloud.recipe(route="own"))
    told = what_went_wrong(session, ["UserError: exit code 1"], [line])
    assert cause in told[0]
    assert fix in told[1]
    environment = _fake_torch(tmp_path, version, finds=True)
    assert subprocess.run(["bash", "-c", check], env=environment, check=False).returncode == 0


def test_another_torch_is_another_image_of_the_same_job(cloud: Trainable) -> None:
    """As the fix of a driver that is too old says; what comes after needs not be told of it."""
    cloud.forget("jobs")
    sets = ["model.context_window=512"]
    recipe = cloud.recipe(*sets, route="own")
    name = job_name(recipe, cloud.assets(recipe))
    line = "error: torch 2.13.0+cu130 finds 0 GPUs, not 1; driver 535.104.05"
    cloud.azure.fail_resource(f"/jobs/{name}$", "exit code 1", code="UserError", log=line)
    error = cloud.refused(recipe)
    assert "torch and the driver of the machine do not fit" in error.what
    command = shlex.split(error.fix)
    assert command[:4] == ["python", "-m", "setup", "finetune"]
    assert command[-2] == "--set"
    other = cloud.recipe(*sets, command[-1], route="own")
    assert cloud.agreed(finetune.run, other).changed
    first, second = (job.hidden["sent"]["environmentId"] for job in cloud.jobs())
    assert first != second
    assert register.run(AzureSession(recipe)).changed
    assert own_job.torch_requirement(other, 0).startswith(b"--index-url https://download")
    for index in ("http://plain.example/cu126", "https://me:key@example.org/cu126"):
        with pytest.raises(FixableError, match="torch_index"):
            cloud.recipe(f"finetune.torch_index={index}", route="own")


def test_sharding_on_one_gpu_is_refused_before_it_costs(cloud: Trainable) -> None:
    cloud.forget("jobs")
    error = cloud.refused(cloud.recipe("finetune.trainer.sharding=full_shard", route="own"))
    assert "of which 1 x Standard_E4s_v3 has 0" in error.what
    assert cloud.azure.writes == []


def test_command_exists_in_the_snapshot(cloud: Trainable, tmp_path: Path) -> None:
    """The trainer's command line and the recipe in the snapshot are what this code takes."""
    commands = own_job.job_command(1, 0).split(" && ")
    [trainer] = [command for command in commands if command.startswith("torchrun")]
    arguments = shlex.split(trainer.partition(" -m ")[2])
    with own_job.code_snapshot(cloud.recipe(route="own")) as code:
        done = subprocess.run(
            [sys.executable, "-m", *arguments, "--dry-run"],
            cwd=code,
            env=os.environ | {"FINETUNE_PHI_HOME": str(tmp_path)},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        sent = sorted(str(path.relative_to(code)) for path in code.rglob("*") if path.is_file())
    assert done.returncode == 0, done.stderr
    assert "LoRA of rank 16 on the top 10 layers, 1.75 epochs of" in done.stdout
    assert "data/prepared/train_data.jsonl" in done.stdout
    assert {"data/general/text.jsonl", "job-recipe.yaml", "setup/__main__.py"} <= set(sent)
    assert not [path for path in sent if path.endswith((".pyc", "test.jsonl", ".gguf"))]


@pytest.mark.parametrize("source", ["/models/mine.gguf", "microsoft/Phi-4-mini-instruct"])
def test_model_that_a_job_cannot_fetch_is_refused(cloud: Trainable, source: str) -> None:
    recipe = cloud.recipe(f"model.source={source}", "model.file=", "model.sha256=", route="own")
    cloud.azure.clear()
    with pytest.raises(FixableError, match=r"a job cannot fetch model\.source"):
        cloud.agreed(finetune.run, recipe)
    assert cloud.azure.writes == []


def _finished(recipe: Training, base: Path, train: Path) -> Path:
    """A run that has ended, its adapter on one matrix."""
    folder, _ = run_folder(recipe, model_sha256(base), train)
    (folder / "adapter").mkdir(parents=True)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
    (folder / "adapter" / CONFIG).write_text(json.dumps(config))
    name = "base_model.model.model.layers.0.mlp.down_proj.lora_{}.weight"
    weights = {
        name.format("A"): np.ones((2, _SHAPE[1]), np.float32),
        name.format("B"): np.ones((_SHAPE[0], 2), np.float32),
    }
    save_file(weights, folder / "adapter" / WEIGHTS)
    figures = {"held_out_loss_before": 3.0, "held_out_loss_after": 0.5, "steps": 7}
    (folder / "result.json").write_text(json.dumps(figures))
    return folder


def _model_file(path: Path) -> Path:
    """The least that a model file must have for an adapter to be merged into it."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_tensor("blk.0.ffn_down.weight", np.zeros(_SHAPE, np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_job_leaves_a_merged_model_and_its_losses(
    cloud: Trainable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = _model_file(tmp_path / "base.gguf")
    given = own_job.job_recipe(cloud.recipe(route="own"))
    served = given.model.model_copy(
        update={"source": str(base), "file": "", "sha256": "", "precision": "keep"}
    )
    train = data_plan(cloud.recipe(route="own")).paths.train
    there = given.data.model_copy(update={"out": train.parent})
    recipe = given.model_copy(update={"model": served, "data": there})
    path = tmp_path / own_job.RECIPE
    path.write_text(json.dumps(recipe.model_dump(mode="json")))
    with pytest.raises(FixableError, match="no finished run"):
        job_output.write_outputs(str(path), tmp_path / "model", tmp_path / "adapter")
    _finished(recipe, base, train)
    arguments = [str(path), "--model", str(tmp_path / "model")]
    arguments += ["--adapter", str(tmp_path / "adapter")]
    cloud.forget("jobs")
    cloud.agreed(finetune.run, cloud.recipe(route="own"))
    [job] = cloud.jobs()
    environment = _mlflow(cloud, job.id.name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["job_output", *arguments])
    with refusing(tmp_path / "model"), refusing(tmp_path / "adapter"):
        assert job_output.main() == 0
    [merged] = open_gguf(tmp_path / "model/model.gguf").tensors
    assert np.asarray(merged.data).tolist() == np.full(_SHAPE, 4.0).tolist()  # alpha / r * B A
    assert (tmp_path / "adapter/adapter" / WEIGHTS).is_file()
    logged = job.hidden["metrics"][job.id.name]
    assert {row["key"]: row["value"] for row in logged} == {
        "held_out_loss_before": 3.0,
        "held_out_loss_after": 0.5,
    }
    gone = {"MLFLOW_TRACKING_URI": "azureml://eastus2.api.azureml.ms/elsewhere"}
    assert "HTTPError" in job_output.log_metrics({"loss": 1.0}, environment | gone)
    assert "no MLflow server" in job_output.log_metrics({"loss": 1.0}, {})


def _mlflow(cloud: Trainable, job: str) -> dict[str, str]:
    """What Azure ML puts into a job's environment."""
    token: dict[str, Any] = cloud.azure.login.issue("https://management.azure.com/.default")
    workspace = cloud.azure.store.need(cloud.workspace)
    return {
        "MLFLOW_TRACKING_URI": workspace.properties["mlFlowTrackingUri"],
        "MLFLOW_TRACKING_TOKEN": token["access_token"],
        "MLFLOW_RUN_ID": job,
    }
