"""A workspace with a cluster, small data and recipes for it: what fine-tuning starts from."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from setup.azure.client.money import answered
from setup.azure.client.session import AzureSession
from setup.azure.data.step import DataAsset, data_assets
from setup.azure.finetune import step as finetune
from setup.common import console
from setup.common.errors import FixableError
from setup.common.step import Result
from setup.data.plan import data_plan
from setup.recipe.azure import AzureRecipe
from setup.recipe.load import load_azure_recipe
from tests.azure.fake import FakeAzure
from tests.azure.fake.ready import add_compute, add_workspace
from tests.azure.fake.storage import Blob
from tests.azure.fake.store import Resource
from tests.azure.patience import hurry

ROWS = 30
PUT_JOB = r"PUT .*/jobs/"


def listen(patch: pytest.MonkeyPatch) -> io.StringIO:
    """What is told on stderr from here on."""
    told = io.StringIO()
    patch.setattr(console.err, "file", told)
    return told


def only(jobs: list[Resource]) -> Resource:
    """The one job that there is."""
    [job] = jobs
    return job


@contextmanager
def trainable(folder: Path) -> Iterator[Trainable]:
    """A fake of its own; this process's environment points to it, and retries come at once."""
    fake = FakeAzure(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in fake.env.items():
            patch.setenv(name, value)
        patch.setenv("FINETUNE_PHI_HOME", str(folder / "home"))
        hurry(patch)
        yield Trainable(fake, folder)
    fake.close()
    assert fake.crashes == []


@dataclass
class Trainable:
    """A fake with the recipe's workspace ``work`` in group ``rg``, and rows in a file.

    Every recipe trains on the same rows.
    """

    azure: FakeAzure
    folder: Path

    def __post_init__(self) -> None:
        self.workspace = add_workspace(self.azure, "work", "rg")
        for recipe in (self.recipe(), self.recipe(route="own")):
            given = recipe.finetune.compute
            add_compute(self.azure, self.workspace, given.name, given.sku)
            cluster = self.store("computes", given.name).properties["properties"]
            cluster["scaleSettings"] = {"minNodeCount": 0, "maxNodeCount": given.nodes}
        for number in range(ROWS):
            self.write(number, f"What is {number}?", "a" if number else "w")

    @property
    def source(self) -> Path:
        """The conversations."""
        return self.folder / "chats.jsonl"

    def write(self, number: int, question: str, mode: str = "a") -> None:
        """Add a conversation."""
        answer = f"It is\u2028{number}."  # a character that str.splitlines takes for a line's end
        turns = [("system", "Be brief."), ("user", question), ("assistant", answer)]
        row = {"messages": [{"role": role, "content": content} for role, content in turns]}
        with self.source.open("w" if mode == "w" else "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def recipe(self, *sets: str, route: str = "catalog") -> AzureRecipe:
        """The published recipe of the route, in this workspace and with these rows."""
        given = [
            "azure.resource_group=rg",
            "azure.workspace=work",
            f"data.source={self.source}",
            f"data.out={self.folder / 'prepared'}",
        ]
        name = {"catalog": "phi-azure", "own": "gguf-azure"}[route]
        return load_azure_recipe(name, [*given, *sets])

    def agreed(self, step: Callable[[AzureSession], Result], recipe: AzureRecipe) -> Result:
        """Run a step as with ``--yes``."""
        with answered(True):
            return step(AzureSession(recipe))

    def refused(self, recipe: AzureRecipe) -> FixableError:
        """What ``finetune`` says, which does not succeed."""
        with pytest.raises(FixableError) as caught:
            self.agreed(finetune.run, recipe)
        assert "\n" not in str(caught.value)
        return caught.value

    def forget(self, kind: str) -> None:
        """Remove all ``jobs``, with their logs, or ``models``, and what was recorded."""
        for resource in list(self.azure.store):
            if f"/{kind}/" in resource.id.key:
                self.azure.store.delete(resource.id.text)
        if kind == "jobs":
            self.azure.storage.container("stwork", "azureml").clear()
        self.azure.clear()

    def assets(self, recipe: AzureRecipe) -> dict[str, DataAsset]:
        """What the recipe trains on; the files are gone."""
        with data_assets(recipe, data_plan(recipe).paths.train) as found:
            return found

    def store(self, kind: str, name: str) -> Resource:
        """A resource of the workspace."""
        return self.azure.store.need(f"{self.workspace}/{kind}/{name}")

    def jobs(self) -> list[Resource]:
        """All jobs, oldest first."""
        return self.azure.store.children(f"{self.workspace}/jobs")

    def blobs(self) -> dict[str, Blob]:
        """What is in the workspace's blob store."""
        container = self.store("datastores", "workspaceblobstore").properties["containerName"]
        return self.azure.storage.container("stwork", container)

    def log(self, job: str, text: str) -> None:
        """What a job printed."""
        logs = self.azure.storage.container("stwork", "azureml")
        logs[f"ExperimentRun/dcid.{job}/user_logs/std_log.txt"] = Blob(text.encode())
