"""Versions of the registered model: made of a job's output, and found; step ``register``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from setup.azure.client.session import AzureSession
from setup.azure.finetune import step as finetune
from setup.azure.finetune.attempts import OUTPUT, newest_attempt
from setup.azure.finetune.job_history import History
from setup.common.errors import FixableError
from setup.common.step import Result

if TYPE_CHECKING:
    from azure.ai.ml.entities import Model

T = TypeVar("T")
JOB = "job"  # the tag that says which job made a version
TYPES = {
    "mlflow": "mlflow_model",
    "gguf": "custom_model",
    "vllm": "custom_model",
}  # by endpoint.kind
FORM = "form"  # the tag that says in which form our own job left a model


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
    job, assets = finetune.completed_job(session)
    there = version_of(list_versions(session), job)
    made = there or _register(session, job, assets)
    losses = ", ".join(
        f"{key} {value}" for key, value in (made.tags or {}).items() if "loss" in key
    )
    detail = f"version {made.version} of {recipe.registry.model} is the output of job {job}"
    following = recipe.command("deploy")
    return Result("register", there is None, detail + (f"; {losses}" if losses else ""), following)


def _register(session: AzureSession, job: str, assets: finetune.Assets) -> Model:
    """A version by the next whole number, tagged with what made it."""
    from azure.ai.ml.entities import Model

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
            **({FORM: recipe.endpoint.form} if recipe.finetune.route == "own" else {}),
            "model": recipe.model.source,
            **{f"data_{part}": str(asset) for part, asset in assets.items()},
            **{key: f"{value:.4f}" for key, value in _losses(session, job).items()},
        },
    )
    with session.errors(f"registering the output of job {job}"):
        made: Any = session.ml().models.create_or_update(model)
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
    from azure.core.exceptions import HttpResponseError

    try:
        return ask(name)
    except HttpResponseError:
        return None


@dataclass(frozen=True)
class ModelVersion:
    """A version of a registered model; ``id`` is the resource id.

    ``why`` is empty for what the recipe's own job made, and else says why it is the newest instead.
    """

    name: str
    version: str
    id: str
    why: str = ""


def find_version(session: AzureSession) -> ModelVersion | None:
    """Return the version that the recipe's own completed job became, else the newest.

    The own job is that of the recipe's data, model and settings. None where the model has no
    version at all; an error for a type that the recipe's ``endpoint.kind`` cannot serve.
    """
    listed = list_versions(session)
    if not listed:
        return None
    job, why = _own_job(session)
    own = version_of(listed, job)
    if job and not own:
        register = session.recipe.command("register")
        why = f"job {job} is not registered ({register})"
    model = own or max(listed, key=lambda model: age(str(model.version)))
    _refuse_other_type(session, model)
    said = "" if own else f"{why}: this is the newest version"
    return ModelVersion(str(model.name), str(model.version), str(model.id), said)


def need_version(session: AzureSession) -> ModelVersion:
    """Return what ``find_version`` does, an error where there is none."""
    version = find_version(session)
    if version is None:
        name, workspace = session.recipe.registry.model, session.recipe.azure.workspace
        raise FixableError(
            f"workspace {workspace} has no version of model {name}",
            session.recipe.command("register"),
        )
    return version


def list_versions(session: AzureSession, archived: bool = False) -> list[Model]:
    """The versions of the recipe's model, with those that were archived or without."""
    from azure.ai.ml.constants import ListViewType

    name, models = session.recipe.registry.model, session.ml().models
    view = ListViewType.ALL if archived else ListViewType.ACTIVE_ONLY
    doing = f"listing the versions of model {name}"
    return session.look_for(doing, lambda: [*models.list(name, list_view_type=view)]) or []


def version_of(listed: list[Model], job: str) -> Model | None:
    """The one that ``job`` made, None where there is none."""
    return next((model for model in listed if job and (model.tags or {}).get(JOB) == job), None)


def age(version: str) -> tuple[int, str]:
    """Orders versions: numbers by their value; other names, which Azure also takes, before them."""
    return (int(version), "") if version.isdecimal() else (-1, version)


def _own_job(session: AzureSession) -> tuple[str, str]:
    """The recipe's completed job, else why there is none."""
    last = newest_attempt(session)
    if last and last.completed:
        return last.job, ""
    return "", f"job {last.job} is {last.status}" if last else "no job of this recipe and data"


def _refuse_other_type(session: AzureSession, model: Model) -> None:
    endpoint = session.recipe.endpoint
    kind, type_ = endpoint.kind, str(model.type)
    has, serves = type_, TYPES[kind]
    if type_ == serves and kind != "mlflow":  # versions of before had no tag, and were all gguf
        has, serves = str((model.tags or {}).get(FORM, "gguf")), endpoint.form
    if has != serves:
        raise FixableError(
            f"version {model.version} of {model.name} is of type {has}, and endpoint.kind {kind} "
            f"serves {serves}",
            "--set endpoint.kind=…, or --set registry.model=ANOTHER and register again",
        )
