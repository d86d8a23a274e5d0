"""Key vaults that were deleted and not purged: they keep their name for days."""

from __future__ import annotations

from setup.azure.infra import template
from setup.azure.names import derive_names
from setup.azure.session import AzureSession, azure_errors
from setup.errors import FixableError

_KIND = "Microsoft.KeyVault/vaults"
_FORBIDDEN = 403


def deleted_vault(session: AzureSession) -> str:
    """The id that a deleted vault of the recipe's name had, empty where there is none.

    Empty too for a login that may not look: deleted vaults belong to the subscription.

    Raises:
        FixableError: Azure cannot be asked.
    """
    from azure.core.exceptions import HttpResponseError  # noqa: PLC0415 - azure is slow

    with azure_errors("looking for a deleted key vault"):
        try:
            found = session.arm.find(_path(session), _version())
        except HttpResponseError as error:
            if error.status_code != _FORBIDDEN:
                raise
            return ""
    return str(found["properties"]["vaultId"]) if found else ""


def is_recoverable(session: AzureSession) -> bool:
    """Whether a deleted vault of ours waits to be taken back.

    Raises:
        FixableError: Another group's deleted vault has the name, or Azure cannot be asked.
    """
    deleted = deleted_vault(session)
    if not deleted or in_group(session, deleted):
        return bool(deleted)
    name = derive_names(session.recipe, session.subscription_id).key_vault
    raise FixableError(
        f"key vault {name} is taken by a deleted one, {deleted}",
        f"az keyvault purge --name {name}, or --set azure.key_vault=NAME",
    )


def in_group(session: AzureSession, path: str) -> bool:
    """Whether the resource ``path`` lies in the recipe's group."""
    return path.lower().startswith(f"{session.group_id}/".lower())


def purge(session: AzureSession) -> None:
    """Begin to delete the deleted vault for good; its name is free when ``deleted_vault`` is empty.

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
