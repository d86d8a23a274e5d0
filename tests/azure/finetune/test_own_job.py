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
from setup.common.errors import FixableError
from setup.data.plan import data_plan
from setup.finetune.run.run import run_folder
from setup.recipe.local import Training
from setup.weights.adapter import CONFIG, WEIGHTS
from setup.weights.fetch import model_sha256
from setup.weights.gguf_file import open_gguf
from tests.azure.trainable import Trainable, trainable

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
    assert set(sent["outputs"]) == {"trained_model", "adapter"}
    assert cloud.azure.violations == []
    done = register.run(AzureSession(recipe))
    assert done.changed
    assert cloud.store("models", "gguf-azure/versions/1").properties["modelType"] == "custom_model"
    cloud.azure.clear()
    assert not finetune.run(AzureSession(recipe)).changed
    assert not register.run(AzureSession(recipe)).changed
    assert cloud.azure.writes == []


def test_several_machines_share_their_run() -> None:
    command = own_job.job_command(2, 4)
    assert 'FINETUNE_PHI_HOME="${{outputs.work}}"' in command
    assert "--nnodes 2 --nproc-per-node 4 --node-rank ${NODE_RANK:-0}" in command


def test_job_without_its_gpus_ends_at_once(tmp_path: Path) -> None:
    """With a torch whose driver is too old."""
    there = "def is_available(): return False\ndef device_count(): return 4\n"
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("from torch import cuda\n")
    (tmp_path / "torch/cuda.py").write_text(there)
    check = own_job.job_command(1, 4).split(" && ")[0]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(["bash", "-c", check], env=environment, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == b"error: torch finds 0 GPUs, not 4"
    (tmp_path / "torch/cuda.py").write_text(there.replace("False", "True"))
    assert subprocess.run(["bash", "-c", check], env=environment, check=False).returncode == 0


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
    [job] = cloud.jobs()
    environment = _mlflow(cloud, job.id.name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["job_output", *arguments])
    _refuse_renaming(monkeypatch, tmp_path / "model")
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


def _refuse_renaming(monkeypatch: pytest.MonkeyPatch, mount: Path) -> None:
    """As mounted storage may."""
    replace = Path.replace

    def refuse(path: Path, target: Path) -> Path:
        if path.is_relative_to(mount):
            raise OSError(95, "Operation not supported")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", refuse)


def _mlflow(cloud: Trainable, job: str) -> dict[str, str]:
    """What Azure ML puts into a job's environment."""
    token: dict[str, Any] = cloud.azure.login.issue("https://management.azure.com/.default")
    workspace = cloud.azure.store.need(cloud.workspace)
    return {
        "MLFLOW_TRACKING_URI": workspace.properties["mlFlowTrackingUri"],
        "MLFLOW_TRACKING_TOKEN": token["access_token"],
        "MLFLOW_RUN_ID": job,
    }
