"""The step ``register`` in Azure: the completed job's output as a version of the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from setup.azure.client.session import AzureSession
from setup.azure.data.step import DataAsset
from setup.azure.deploy.version import JOB, age, list_versions, version_of
from setup.azure.finetune.attempts import OUTPUT, newest_attempt
from setup.azure.finetune.job_history import History
from setup.azure.finetune.step import completed_job
from setup.common.step import Result

if TYPE_CHECKING:
    from azure.ai.ml.entities import Model

T = TypeVar("T")


def plan(session: AzureSession) -> list[str]:
    """List what ``run`` would do, as far as there is a completed job."""
    model = session.recipe.registry.model
    last = newest_attempt(session)
    if last is None or not last.completed:
        return [f"register the job's output as a version of {model}"]
    if version := version_of(list_versions(session), last.job):
        return [f"version {version.version} of {model} is job {last.job}"]
    return [f"register the output of job {last.job} as a version of {model}"]


def run(session: AzureSession) -> Result:
    """Make the output of the recipe's completed job a version of its model, or find it."""
    recipe = session.recipe
    job, assets = completed_job(session)
    there = version_of(list_versions(session), job)
    made = there or _register(session, job, assets)
    losses = ", ".join(
        f"{key} {value}" for key, value in (made.tags or {}).items() if "loss" in key
    )
    detail = f"version {made.version} of {recipe.registry.model} is the output of job {job}"
    following = recipe.command("deploy")
    return Result("register", there is None, detail + (f"; {losses}" if losses else ""), following)


def _register(session: AzureSession, job: str, assets: dict[str, DataAsset]) -> Model:
    """A version by the next whole number, tagged with what made it."""
    from azure.ai.ml.entities import Model  # noqa: PLC0415 - slow

    recipe = session.recipe
    numbers = [age(str(version.version))[0] for version in list_versions(session, archived=True)]
    model = Model(
        name=recipe.registry.model,
        version=str(max([0, *numbers]) + 1),
        type="mlflow_model" if recipe.finetune.route == "catalog" else "custom_model",
        path=f"azureml://jobs/{job}/outputs/{OUTPUT}",
        description=f"{recipe.model.name}, fine-tuned",
        tags={
            **recipe.azure.tags,
            JOB: job,
            "model": recipe.model.source,
            **{f"data_{part}": str(asset) for part, asset in assets.items()},
            **{key: f"{value:.4f}" for key, value in _losses(session, job).items()},
        },
    )
    with session.errors(f"registering the output of job {job}"):
        made: Any = session.ml(recipe.azure.workspace).models.create_or_update(model)
    return made  # type: ignore[no-any-return]


def _losses(session: AzureSession, job: str) -> dict[str, float]:
    """Return the last value of every loss that the job or a step of it logged."""
    metrics: dict[str, float] = {}
    with session.errors(f"reading the losses of job {job}"):
        history = History(session)
        steps = _unless_refused(history.steps, job) or []
        for name in (job, *(step.name for step in steps)):
            metrics |= _unless_refused(history.metrics, name) or {}
    return {key: value for key, value in sorted(metrics.items()) if "loss" in key.lower()}


def _unless_refused(ask: Callable[[str], T], name: str) -> T | None:
    """Return what ``ask`` does: that it cannot be read is no reason not to register."""
    from azure.core.exceptions import HttpResponseError  # noqa: PLC0415 - slow

    try:
        return ask(name)
    except HttpResponseError:
        return None
