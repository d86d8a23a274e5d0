"""Key vaults that were deleted and not purged: they keep their name for days."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from setup.azure.client import waiting
from setup.azure.client.explain import FORBIDDEN, status_of
from setup.azure.client.ownership import is_ours
from setup.azure.client.session import AzureSession
from setup.common import console
from setup.common.errors import FixableError

_PURGE_FOR = 300.0  # seconds
_NO_PURGE = (FORBIDDEN, 405, 409)  # no right to, or a policy has switched purge protection on


def is_recoverable(session: AzureSession) -> bool:
    """Tell whether a deleted vault of ours waits to be taken back; an error if it is another's.

    False for a login that may not look: making a vault of that name then says so.
    """
    name, deleted = session.names.key_vault, _find_deleted(session)
    if not deleted or _is_ours(session, deleted):
        return bool(deleted)
    raise FixableError(
        f"key vault {name} is taken by a deleted one, {deleted['vaultId']}",
        f"--set azure.key_vault=NAME, or, if nobody wants it back, az keyvault purge --name {name}",
    )


def deleted_line(session: AzureSession) -> str:
    """Describe our vault that was deleted and not purged, empty where there is none to be seen."""
    ours = _is_ours(session, _find_deleted(session))
    return (
        f"deleted key vault {session.names.key_vault}, which keeps its name: nothing"
        if ours
        else ""
    )


def purge(session: AzureSession, was_there: bool) -> str:
    """Purge our deleted vault, and return what remains to be said if that is not allowed.

    ``was_there`` when the vault was deleted just now, so that not seeing it means something.
    """
    name, deleted = session.names.key_vault, _find_deleted(session)
    if deleted is None and was_there:
        return f"; key vault {name} may keep its name for days: you may not look for deleted ones"
    if not _is_ours(session, deleted):
        return ""
    try:
        with session.errors(f"purging key vault {name}"):
            session.arm.post(f"{_path(session)}/purge")
        gone, what = lambda: not _find_deleted(session), f"purging {name}"
        waiting.wait_until(gone, _PURGE_FOR, waiting.PAUSE, what)
    except waiting.NotYetError:
        return f"; key vault {name} is still being purged"
    except FixableError as error:
        if status_of(error) not in _NO_PURGE:
            raise
        return f"; deleted key vault {name} keeps its name for days: you may not purge it"
    console.err.print(f"purged key vault {name}", markup=False)
    return ""


def _find_deleted(session: AzureSession) -> Mapping[str, Any] | None:
    """Return the properties of the deleted vault of the recipe's name: ``vaultId``, ``tags``.

    Empty where there is none; None for a login without the right on the subscription to look.
    """
    try:
        deleted = session.find("looking for a deleted key vault", _path(session))
    except FixableError as error:
        if not session.is_forbidden(error):
            raise
        return None
    return dict(deleted["properties"]) if deleted else {}


def _is_ours(session: AzureSession, deleted: Mapping[str, Any] | None) -> bool:
    """Tell whether there is one that lay in the recipe's group and was not somebody else's."""
    if not deleted:
        return False
    inside = str(deleted["vaultId"]).lower().startswith(f"{session.group_id}/".lower())
    return inside and (deleted.get("tags") is None or is_ours(deleted))


def _path(session: AzureSession) -> str:
    place = f"/subscriptions/{session.subscription_id}/providers/Microsoft.KeyVault/locations"
    return f"{place}/{session.recipe.azure.location}/deletedVaults/{session.names.key_vault}"
