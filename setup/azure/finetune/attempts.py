"""Which job of Azure ML is a recipe's: its name follows from data, model and settings."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from setup.azure.client.session import AzureSession
from setup.azure.data.step import DataAsset, data_assets, train_split
from setup.azure.finetune.job_history import ENDED
from setup.common.errors import FixableError
from setup.recipe.azure import AzureRecipe

OUTPUT = "trained_model"  # what every job of ours leaves under this name is registered
_FORMAT = 1  # raise it when a change of code makes other jobs of the same recipe
_DIGITS = 10
# How it is run, not what comes out; as in setup/finetune/run/run.py.
_NOT_IN_NAME = {"threads", "save_every", "sharding"}


@dataclass(frozen=True)
class Attempt:
    """A job of the recipe's name that exists; ``number`` counts from 1."""

    job: str
    number: int
    status: str

    @property
    def completed(self) -> bool:
        """Tell whether it has the output."""
        return self.status == "Completed"

    @property
    def over(self) -> bool:
        """Tell whether it has ended, well or not."""
        return self.status in ENDED


def job_name(recipe: AzureRecipe, assets: dict[str, DataAsset], number: int = 1) -> str:
    """The name of an attempt: the same data, model and settings have the same name."""
    finetune = recipe.finetune
    settings: dict[str, Any] = {
        "component": [finetune.component_registry, finetune.component, finetune.component_version],
        "inputs": finetune.component_inputs(),
    }
    if finetune.route == "own" and finetune.trainer:
        settings = {"trainer": finetune.trainer.model_dump(exclude=_NOT_IN_NAME)}
    content = {
        "format": _FORMAT,
        "model": recipe.model.model_dump(exclude={"context_window"}),
        "data": {part: str(asset) for part, asset in assets.items()},
        "machines": [finetune.compute.sku, finetune.compute.nodes],
        **settings,
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"{recipe.name}-{digest[:_DIGITS]}" + (f"-{number}" if number > 1 else "")


def last_attempt(session: AzureSession, assets: dict[str, DataAsset]) -> Attempt | None:
    """The newest job of this recipe and data, None where there is none."""
    last, number = None, 1
    while True:
        name = job_name(session.recipe, assets, number)
        path = f"{session.workspace_path()}/jobs/{name}"
        job = session.find(f"looking for job {name}", path)
        if job is None:
            return last
        last = Attempt(name, number, str(job["properties"]["status"]))
        number += 1


def newest_attempt(session: AzureSession) -> Attempt | None:
    """Return the newest job of the recipe and its data; None where that is not prepared here."""
    try:
        train = train_split(session.recipe).file
    except FixableError:
        return None
    with data_assets(session.recipe, train) as assets:
        return last_attempt(session, assets)
