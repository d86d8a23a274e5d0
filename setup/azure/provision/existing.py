"""Parts that a company has already, used instead of made: read, never changed nor deleted."""

from __future__ import annotations

from typing import Any

from setup.azure.client.session import AzureSession
from setup.common.errors import FixableError

# By key of ``infra.NAMES``: the parameter of the template, and how a workspace names its own.
_USED = {
    "storage": ("existingStorageId", "storageAccount"),
    "key_vault": ("existingKeyVaultId", "keyVault"),
    "registry": ("existingRegistryId", "containerRegistry"),
    "insights": ("existingInsightsId", "applicationInsights"),
}


def existing_ids(session: AzureSession) -> dict[str, str]:
    """Return the resource ids of what is there already, by key; an error if it is not.

    What the recipe does not name and an existing workspace stands on counts, too.
    """
    azure = session.recipe.azure
    ids = {key: str(getattr(azure.existing, key)) for key in _USED if getattr(azure.existing, key)}
    if azure.existing.workspace:
        path = session.workspace_path()
        properties = _read(session, "workspace", path)["properties"]
        own = {key: str(properties.get(name) or "") for key, (_, name) in _USED.items()}
        ids = {"workspace": path} | {key: id_ for key, id_ in own.items() if id_} | ids
    return ids


def existing_bodies(session: AzureSession, ids: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return what is there already, as Azure describes it, by key."""
    return {key: _read(session, key, id_) for key, id_ in ids.items()}


def left_out(key: str, ids: dict[str, str]) -> bool:
    """Tell whether the template does not make the part: logs belong to insights."""
    return key in ids or (key == "logs" and "insights" in ids)


def template_values(ids: dict[str, str]) -> dict[str, Any]:
    """Return the parameters of the template that say what it does not make."""
    values: dict[str, Any] = {_USED[key][0]: id_ for key, id_ in ids.items() if key in _USED}
    return values | ({"createWorkspace": False} if "workspace" in ids else {})


def _read(session: AzureSession, key: str, id_: str) -> dict[str, Any]:
    title = key.replace("_", " ")
    body = session.find(f"reading the existing {title}", id_)
    if body is None:
        raise FixableError(
            f"azure.existing.{key} is not there: {id_}", f"correct azure.existing.{key}"
        )
    return body
