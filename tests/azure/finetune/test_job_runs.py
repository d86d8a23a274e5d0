"""The command of our own trainer's job, run as two machines would that share a mount alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from setup.azure.client.session import AzureSession
from setup.azure.data import step as data
from setup.azure.finetune import own_job
from tests import blob_mount
from tests.azure.trainable import Trainable, trainable
from tests.home import free_port
from tests.setup.finetune.machine import difference, kill
from tests.tiny import make_tiny_llama, transformers_folder

pytestmark = [pytest.mark.slow, pytest.mark.minutes]

SETS = {
    "layers": 0,
    "epochs": 12,
    "learning_rate": 0.01,
    "max_tokens": 128,
    "precision": "fp32",
    "threads": 1,
    "patience": 0,
    "save_every": 4,
    "evaluate_every": 12,
    "dropout": 0.1,  # so that every machine's random numbers count
}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainable]:
    with trainable(tmp_path_factory.mktemp("azure")) as found:
        data.run(AzureSession(found.recipe(route="own")))
        yield found


@dataclass
class Cluster:
    """Two machines, each with a disk of its own, and a mount that refuses renames."""

    cloud: Trainable
    folder: Path
    sharding: str
    form: str = "gguf"

    def __post_init__(self) -> None:
        self.mount = self.folder / "mount"
        self.model = make_tiny_llama(self.folder / "hub")

    def start(self) -> list[subprocess.Popen[str]]:
        """Start the job on machines that hold nothing yet."""
        shutil.rmtree(self.folder / "machines", ignore_errors=True)
        port = free_port()
        return [self._start(number, port) for number in range(2)]

    def _start(self, number: int, port: int) -> subprocess.Popen[str]:
        machine = self.folder / "machines" / str(number)
        recipe = self.cloud.recipe(route="own")
        with own_job.code_snapshot(recipe, data.train_split(recipe)) as code:
            shutil.copytree(code, machine / "code")
        self._name_tiny_model(machine / "code" / own_job.RECIPE)
        command = own_job.job_command(2, 0, self.form).replace(
            own_job.LOCAL_STATE, str(machine / "disk")
        )
        for name in ("trained_model", "adapter", "work"):
            command = command.replace(f"${{{{outputs.{name}}}}}", str(self.mount / name))
        train = data.train_file(recipe)
        return subprocess.Popen(
            ["bash", "-c", command.replace("${{inputs.train}}", str(train))],
            cwd=machine / "code",
            env=os.environ
            | blob_mount.environment(self.mount, machine / "site")
            | {
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "NODE_RANK": str(number),
                "MASTER_PORT": str(port),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )

    def _name_tiny_model(self, path: Path) -> None:
        recipe = yaml.safe_load(path.read_text())
        recipe["model"] |= {
            "source": str(self.model),
            "file": "",
            "sha256": "",
            "precision": "keep",
        }
        recipe["finetune"] |= {**SETS, "sharding": self.sharding}
        path.write_text(yaml.safe_dump(recipe))

    def kill(self, processes: list[subprocess.Popen[str]]) -> None:
        """End the machines as soon as a whole checkpoint is on the mount."""
        while not list(self.mount.glob("work/*/checkpoint-*/whole.json")):
            assert all(process.poll() is None for process in processes), _told(processes)
            time.sleep(0.005)
        for process in processes:
            kill(process)
        _told(processes)

    def finish(self, processes: list[subprocess.Popen[str]]) -> str:
        """Wait for the end; returns what the first machine printed."""
        while None in (codes := [process.poll() for process in processes]):
            if any(codes):  # the other one would wait for it for ever
                kill(processes[codes.index(None)])
            time.sleep(0.05)
        told = _told(processes)
        assert [process.returncode for process in processes] == [0, 0], told
        return told[0]


def _told(processes: list[subprocess.Popen[str]]) -> list[str]:
    return [process.communicate(timeout=900)[0] for process in processes]


@pytest.mark.parametrize("sharding", ["none", "full_shard"])
def test_job_goes_on_from_the_mount_on_other_machines(
    cloud: Trainable, tmp_path: Path, sharding: str
) -> None:
    killed = Cluster(cloud, tmp_path / "killed", sharding)
    killed.kill(killed.start())
    told = killed.finish(killed.start())
    assert "is taken from" in told
    assert "going on from step" in told
    assert "cannot write" not in told
    quiet = Cluster(cloud, tmp_path / "quiet", sharding)
    quiet.finish(quiet.start())
    assert difference(killed.mount / "adapter", quiet.mount / "adapter") < 1e-6
    assert (killed.mount / "trained_model/model.gguf").stat().st_size
    [copy] = (killed.mount / "work").iterdir()
    assert not list(copy.glob("checkpoint-*"))
    killed.form = "transformers"  # what vLLM is given
    again = killed.finish(killed.start())
    assert "the finished run is taken from" in again
    tuned, base = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
        for folder in (killed.mount / "trained_model/model", transformers_folder(killed.model))
    )
    assert set(tuned) == set(base)
    assert not torch.equal(*(m["model.layers.0.mlp.down_proj.weight"] for m in (tuned, base)))
