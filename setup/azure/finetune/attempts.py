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
from setup.common.step import Result
from setup.data import ForgottenSourceError
from setup.recipe.azure import AzureRecipe

OUTPUT = "trained_model"  # what every job of ours leaves under this name is registered
_FORMAT = 1  # raise it when a change of code makes other jobs of the same recipe
_DIGITS = 10
# How it is run, not what comes out; as in setup/finetune/run/run_folder.py.
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
        if recipe.endpoint.kind == "vllm":  # else gguf, as it was before there was another form
            settings["form"] = recipe.endpoint.form
    content = {
        "format": _FORMAT,
        "model": recipe.model.model_dump(exclude={"context_window"}),
        "data": {part: str(asset) for part, asset in assets.items()},
        "machines": [finetune.compute.sku, finetune.compute.nodes],
        **settings,
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return attempt_name(f"{recipe.name}-{digest[:_DIGITS]}", number)


def attempt_name(first: str, number: int) -> str:
    """The name of an attempt, counted from 1."""
    return f"{first}-{number}" if number > 1 else first


def last_attempt(session: AzureSession, assets: dict[str, DataAsset]) -> Attempt | None:
    """The newest job of this recipe and data, None where there is none."""
    return last_of(session, job_name(session.recipe, assets))


def last_of(session: AzureSession, first: str) -> Attempt | None:
    """The newest attempt of the job whose first one has the name ``first``."""
    last, number = None, 1
    while True:
        name = attempt_name(first, number)
        path = f"{session.workspace_path()}/jobs/{name}"
        job = session.find(f"looking for job {name}", path)
        if job is None:
            return last
        last = Attempt(name, number, str(job["properties"]["status"]))
        number += 1


def newest_attempt(session: AzureSession) -> Attempt | None:
    """Return the newest job of the recipe and its data; None where that is not prepared here.

    Raises:
        FixableError: The data were prepared with a source that this command was not given.
    """
    try:
        train = train_split(session.recipe).file
    except ForgottenSourceError:
        raise
    except FixableError:
        return None
    with data_assets(session.recipe, train) as assets:
        return last_attempt(session, assets)


def cancel_job(session: AzureSession, name: str) -> Result:
    """End a job of the recipe's workspace; one that has ended stays as it is."""
    path = f"{session.workspace_path()}/jobs/{name}"
    job = session.find(f"looking for job {name}", path)
    if job is None:
        where = f"workspace {session.recipe.azure.workspace}"
        raise FixableError(f"{where} has no job {name}", "name one that a command has printed")
    status = str(job["properties"]["status"])
    if status in ENDED:
        return Result("cancel", False, f"job {name} is {status.lower()}", "")
    with session.errors(f"cancelling job {name}"):
        session.ml().jobs.begin_cancel(name).wait()
    return Result("cancel", True, f"job {name} is cancelled, and costs no more", "")
