"""Versions of the registered model, as deployments name them."""

from __future__ import annotations

from dataclasses import dataclass

from setup.azure.session import AzureSession, azure_errors
from setup.errors import FixableError

TYPES = {"mlflow": "mlflow_model", "gguf": "custom_model"}  # by endpoint.kind


@dataclass(frozen=True)
class ModelVersion:
    """A version of a registered model; ``id`` is the resource id."""

    name: str
    version: str
    id: str


def newest_version(session: AzureSession) -> ModelVersion | None:
    """The newest version of the recipe's registered model, None where there is none.

    Raises:
        FixableError: It is of a type that the recipe's ``endpoint.kind`` cannot serve.
    """
    from azure.core.exceptions import ResourceNotFoundError  # noqa: PLC0415 - azure is slow

    name, workspace = session.recipe.registry.model, session.recipe.azure.workspace
    with azure_errors(f"looking for versions of {name}"):
        try:
            listed = list(session.ml(workspace).models.list(name))
        except ResourceNotFoundError:
            return None
    if not listed:
        return None
    newest = max(listed, key=lambda model: age(str(model.version)))
    kind = session.recipe.endpoint.kind
    if newest.type != TYPES[kind]:
        raise FixableError(
            f"version {newest.version} of {name} is of type {newest.type}, and endpoint.kind "
            f"{kind} serves {TYPES[kind]}",
            "--set endpoint.kind=…, or --set registry.model=ANOTHER and register again",
        )
    return ModelVersion(name, str(newest.version), str(newest.id))


def need_version(session: AzureSession) -> ModelVersion:
    """The newest version.

    Raises:
        FixableError: There is none, or as ``newest_version``.
    """
    found = newest_version(session)
    if found is None:
        name, workspace = session.recipe.registry.model, session.recipe.azure.workspace
        raise FixableError(
            f"workspace {workspace} has no version of model {name}",
            f"python -m setup register --recipe {session.recipe.name}",
        )
    return found


def age(version: str) -> tuple[int, str]:
    """Orders versions: numbers by their value; other names, which Azure also takes, before them."""
    return (int(version), "") if version.isdigit() else (-1, version)
