"""Versions of the registered model: which job made one, and which is a recipe's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from setup.azure.client.session import AzureSession
from setup.azure.finetune.attempts import newest_attempt
from setup.common.errors import FixableError

if TYPE_CHECKING:
    from azure.ai.ml.entities import Model

JOB = "job"  # the tag that says which job made a version
TYPES = {"mlflow": "mlflow_model", "gguf": "custom_model"}  # by endpoint.kind


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
    from azure.ai.ml.constants import ListViewType  # noqa: PLC0415 - slow

    name, workspace = session.recipe.registry.model, session.recipe.azure.workspace
    view = ListViewType.ALL if archived else ListViewType.ACTIVE_ONLY
    models = session.ml(workspace).models
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
    kind = session.recipe.endpoint.kind
    if model.type != TYPES[kind]:
        raise FixableError(
            f"version {model.version} of {model.name} is of type {model.type}, and endpoint.kind "
            f"{kind} serves {TYPES[kind]}",
            "--set endpoint.kind=…, or --set registry.model=ANOTHER and register again",
        )
