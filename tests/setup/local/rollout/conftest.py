"""A machine with registered versions of SmolLM2, in whose name this process deploys."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from setup.common.files import sha256_file
from setup.local.control import LocalEndpoint
from setup.local.deploy import deploy
from setup.local.registry import Version, get_version, register_finetune
from setup.local.tuned_model import prepare_version
from setup.recipe.load import load_recipe
from setup.recipe.local import Recipe
from setup.weights.fetch import model_sha256, prepare_model
from tests.conftest import MakeHome
from tests.home import Home, ask
from tests.setup.local.rollout.adapters import SHAPE, write_run

_CLIENTS = 8
_SPOILT = "blk.29.ffn_down.weight"
_PAUSE = 0.4  # seconds between a client's answer and its next question: the cores are few


@dataclass
class Seen:
    """What clients that name no deployment were answered, in the order of the answers."""

    statuses: set[int] = field(default_factory=set)
    deployments: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)


@dataclass
class Lab:
    """The machine; version 1 and 2 differ in their answers, 3 is of another base."""

    home: Home

    def recipe(self, version: str | int, *sets: str) -> Recipe:
        """The recipe that serves this version."""
        given = [f"endpoint.port={self.home.port}", f"endpoint.version={version}"]
        return load_recipe("laptop", [*given, *self.home.sets, *sets])

    def deploy(self, version: str | int, *sets: str) -> bool:
        """``python -m setup deploy --set endpoint.version=VERSION``, without another process."""
        return deploy(LocalEndpoint(self.recipe(version, *sets)))

    def row(self, name: str) -> dict[str, Any]:
        """What the endpoint says of a deployment."""
        return dict(self.rows()[name])

    def rows(self) -> dict[str, Any]:
        """What the endpoint says of all."""
        return dict(self.home.manage("GET").json()["deployments"])

    def traffic(self) -> dict[str, int]:
        """The shares that are not nought."""
        return {name: row["traffic"] for name, row in self.rows().items() if row["traffic"]}

    def shift(self, **shares: int) -> None:
        """``python -m setup traffic``, without another process."""
        assert self.home.manage("PUT", "/traffic", shares).status_code == 200

    def answer(self, deployment: str) -> str:
        """A short greedy answer of one deployment."""
        named = {"azureml-model-deployment": deployment}
        body = ask("What is the capital of France?", max_new_tokens=8)
        return str(self.home.call("/score", body, **named).json()["output"])

    def models(self) -> dict[str, str]:
        """The file of every deployment."""
        return {name: row["model_path"] for name, row in self.rows().items()}

    def version(self, number: int) -> Version:
        """A version as the registry keeps it."""
        return get_version("phi-local", str(number))

    def merged(self) -> set[Path]:
        """The merged model files."""
        return set(self.home.models.glob("*-tuned-*.gguf"))

    @contextmanager
    def spoilt(self, number: int, strength: float) -> Iterator[None]:
        """The merged file of a version is noise, and says so in its record, while this runs.

        That is what a merge leaves that goes wrong unnoticed; an adapter that is no number is
        refused before.
        """
        base = prepare_model(self.recipe(number).model)
        path = prepare_version(self.recipe(number), self.version(number), base)
        record = path.with_suffix(".json")
        recorded = record.read_text(encoding="utf-8")
        tensor = np.memmap(path, np.float16, "r+", _offset(path), SHAPE)
        good = tensor.copy()
        try:
            tensor[:] = strength * np.random.default_rng(0).standard_normal(SHAPE)
            spoilt = {"sha256": sha256_file(path), "source": "test"}
            record.write_text(json.dumps(spoilt), encoding="utf-8")
            yield
        finally:
            tensor[:] = good
            record.write_text(recorded, encoding="utf-8")

    @contextmanager
    def clients(self) -> Iterator[Seen]:
        """Eight clients that ask while the block runs, and a little longer."""
        seen, stop = Seen(), threading.Event()

        def ask_on(_: int) -> None:
            while not stop.wait(_PAUSE):
                reply = self.home.call("/score", ask("Hi", max_new_tokens=2))
                seen.statuses.add(reply.status_code)
                seen.deployments.append(str(reply.json().get("model")))
                seen.texts.append(str(reply.json().get("output")))

        def wait_for_more(count: int) -> None:
            deadline = time.monotonic() + 30
            enough = len(seen.texts) + count
            while len(seen.texts) < enough and time.monotonic() < deadline:
                time.sleep(0.02)

        with ThreadPoolExecutor(_CLIENTS) as pool:
            asking = [pool.submit(ask_on, number) for number in range(_CLIENTS)]
            try:
                wait_for_more(_CLIENTS)
                yield seen
                # Twice as many as can have been under way: the last ones began after the block.
                wait_for_more(2 * _CLIENTS)
            finally:
                stop.set()
            for client in asking:
                client.result()


@cache
def _offset(path: Path) -> int:
    """Where a matrix of the last layer lies in the file; opening a reader takes seconds."""
    [tensor] = (t for t in gguf.GGUFReader(path).tensors if t.name == _SPOILT)
    return int(tensor.data_offset)


@pytest.fixture(scope="module")
def lab(
    make_home: MakeHome, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    """Base alone is deployed; the versions are registered after that, the first as champion."""
    home = make_home("model.context_window=256", "endpoint.slots=4")
    home.models = home.path / "models"
    home.models.mkdir()
    (home.models / model.name).symlink_to(model)
    shutil.copyfile(model.with_suffix(".json"), home.models / model.with_suffix(".json").name)
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("FINETUNE_PHI_HOME", "FINETUNE_PHI_MODELS"):
            patch.setenv(name, home.env[name])
        lab = Lab(home)
        assert lab.deploy("champion")
        own, other = model_sha256(home.models / model.name), "0" * 64
        for number, base in ((1, own), (2, own), (3, other)):
            run = write_run(runs / str(number), number, 0.02, base)
            assert register_finetune("phi-local", run).number == number
        yield lab
        shutil.rmtree(home.models)
