"""The step ``register`` in Azure: the completed job's output as a version of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from setup.azure.attempts import OUTPUT, last_attempt
from setup.azure.data import DataAsset, data_assets, data_plan
from setup.azure.finetune import completed_job
from setup.azure.history import History
from setup.azure.recipe import AzureRecipe
from setup.azure.session import AzureSession, azure_errors
from setup.step import Result

if TYPE_CHECKING:
    from azure.ai.ml.entities import Model

_JOB = "job"  # the tag that says which job made a version


def plan(recipe: AzureRecipe) -> list[str]:
    """What ``run`` would do, as far as there is a completed job."""
    model, train = recipe.registry.model, data_plan(recipe).paths.train
    unknown = [f"register the job's output as a version of {model}"]
    if not train.is_file():
        return unknown
    session = AzureSession(recipe)
    with data_assets(recipe, train) as assets:
        last = last_attempt(session, assets)
    if last is None or not last.completed:
        return unknown
    if found := find_version(session, last.job):
        return [f"version {found.version} of {model} is job {last.job}"]
    return [f"register the output of job {last.job} as a version of {model}"]


def run(recipe: AzureRecipe) -> Result:
    """Make the output of the recipe's completed job a version of its model, or find it.

    Raises:
        FixableError: There is no completed job, or Azure refuses.
    """
    session = AzureSession(recipe)
    job, assets = completed_job(session)
    found = find_version(session, job)
    made = found or _register(session, job, assets)
    losses = ", ".join(
        f"{key} {value}" for key, value in (made.tags or {}).items() if "loss" in key
    )
    detail = f"version {made.version} of {recipe.registry.model} is the output of job {job}"
    following = f"python -m setup deploy --recipe {recipe.name}"
    return Result("register", found is None, detail + (f"; {losses}" if losses else ""), following)


def find_version(session: AzureSession, job: str) -> Model | None:
    """The version of the recipe's model that ``job`` made, None where there is none.

    Raises:
        FixableError: Azure cannot be asked.
    """
    return next((one for one in _versions(session) if (one.tags or {}).get(_JOB) == job), None)


def _versions(session: AzureSession) -> list[Model]:
    from azure.core.exceptions import ResourceNotFoundError  # noqa: PLC0415 - slow

    name = session.recipe.registry.model
    with azure_errors(f"listing the versions of model {name}"):
        try:
            return list(session.ml(session.recipe.azure.workspace).models.list(name=name))
        except ResourceNotFoundError:
            return []


def _register(session: AzureSession, job: str, assets: dict[str, DataAsset]) -> Model:
    """A version by the next whole number, tagged with what made it."""
    from azure.ai.ml.entities import Model  # noqa: PLC0415 - slow

    recipe = session.recipe
    numbers = [int(one.version or 0) for one in _versions(session) if str(one.version).isdecimal()]
    model = Model(
        name=recipe.registry.model,
        version=str(max(numbers, default=0) + 1),
        type="mlflow_model" if recipe.finetune.route == "catalog" else "custom_model",
        path=f"azureml://jobs/{job}/outputs/{OUTPUT}",
        description=f"{recipe.model.name}, fine-tuned",
        tags={
            **recipe.azure.tags,
            _JOB: job,
            "model": recipe.model.source,
            **{f"data_{part}": str(asset) for part, asset in assets.items()},
            **{key: f"{value:.4f}" for key, value in _losses(session, job).items()},
        },
    )
    with azure_errors(f"registering the output of job {job}"):
        made: Any = session.ml(recipe.azure.workspace).models.create_or_update(model)
    return made  # type: ignore[no-any-return]


def _losses(session: AzureSession, job: str) -> dict[str, float]:
    """The last value of every loss that the job or a step of it logged; none where none did."""
    from azure.core.exceptions import HttpResponseError  # noqa: PLC0415 - slow

    found: dict[str, float] = {}
    with azure_errors(f"reading the losses of job {job}"):
        history = History(session)
        for name in (job, *(step.name for step in history.steps(job))):
            try:
                found |= history.metrics(name)
            except HttpResponseError:
                continue  # it logged none, or metrics cannot be read: no reason not to register
    return {key: value for key, value in sorted(found.items()) if "loss" in key.lower()}
