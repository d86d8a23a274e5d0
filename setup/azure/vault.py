"""Key vaults that were deleted and not purged: they keep their name for days."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from setup.azure.infra import template
from setup.azure.names import derive_names
from setup.azure.ours import MADE, mark_of, status_of
from setup.azure.session import AzureSession, azure_errors
from setup.errors import FixableError

_KIND = "Microsoft.KeyVault/vaults"
_FORBIDDEN = 403


def deleted_vault(session: AzureSession) -> dict[str, Any] | None:
    """The deleted vault of the recipe's name: ``vaultId`` is the id it had, ``tags`` its tags.

    None where there is none, and for a login that may not look: making a vault of that name then
    says so.

    Raises:
        FixableError: Azure cannot be asked.
    """
    try:
        return look_for_deleted(session)
    except FixableError as error:
        if status_of(error) != _FORBIDDEN:
            raise
        return None


def look_for_deleted(session: AzureSession) -> dict[str, Any] | None:
    """The same, None only where there is none.

    Raises:
        FixableError: Azure cannot be asked; it takes a right on the subscription.
    """
    with azure_errors("looking for a deleted key vault"):
        found = session.arm.find(_path(session), _version())
    return dict(found["properties"]) if found else None


def is_ours(session: AzureSession, deleted: Mapping[str, Any]) -> bool:
    """Whether a deleted vault lay in the recipe's group and was not somebody else's there."""
    inside = str(deleted["vaultId"]).lower().startswith(f"{session.group_id}/".lower())
    return inside and (deleted.get("tags") is None or mark_of(deleted) == MADE)


def is_recoverable(session: AzureSession) -> bool:
    """Whether a deleted vault of ours waits to be taken back.

    Raises:
        FixableError: A deleted vault of somebody else has the name, or Azure cannot be asked.
    """
    deleted = deleted_vault(session)
    if deleted is None or is_ours(session, deleted):
        return deleted is not None
    name = derive_names(session.recipe, session.subscription_id).key_vault
    raise FixableError(
        f"key vault {name} is taken by a deleted one, {deleted['vaultId']}",
        f"--set azure.key_vault=NAME, or, if nobody wants it back, az keyvault purge --name {name}",
    )


def purge(session: AzureSession) -> None:
    """Begin to delete the deleted vault for good; its name is free when ``deleted_vault`` is None.

    Raises:
        AzureError: Refused: it needs a right on the subscription.
    """
    session.arm.post(f"{_path(session)}/purge", _version(), None)


def _path(session: AzureSession) -> str:
    name = derive_names(session.recipe, session.subscription_id).key_vault
    return (
        f"/subscriptions/{session.subscription_id}/providers/Microsoft.KeyVault"
        f"/locations/{session.recipe.azure.location}/deletedVaults/{name}"
    )


def _version() -> str:
    versions = {entry["type"]: entry["apiVersion"] for entry in template()["resources"]}
    return str(versions[_KIND])
