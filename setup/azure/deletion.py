"""Deleting for good in Azure: side by side what can be, waited for, with progress."""

from __future__ import annotations

import time
from typing import Any

from setup import console
from setup.azure.explain import azure_errors
from setup.azure.remnants import Item
from setup.azure.session import AzureSession
from setup.azure.vault import deleted_vault, in_group
from setup.azure.vault import purge as begin_purge
from setup.azure.waiting import when_free
from setup.errors import FixableError

PATIENCE = 3600.0  # seconds for one wave: a workspace takes minutes, an endpoint up to ten
PURGE_FOR = 300.0
PAUSE = 5.0
_POLL = 5  # seconds between looks of the SDK, where Azure names no pace
_FORBIDDEN = 403


def revoke(session: AzureSession, identities: list[Item]) -> None:
    """Take the roles of our identities in the group: they would stay, with nobody to hold them.

    Raises:
        FixableError: Azure refuses it.
    """
    roles = session.authorization.role_assignments
    for identity in identities:
        with azure_errors(f"taking the roles of {identity.title}"):
            found = session.arm.get(identity.path, identity.api_version)
            principal = found["properties"]["principalId"]
            given = roles.list_for_scope(session.group_id, filter=f"principalId eq '{principal}'")
            for one in list(given):
                if f"{one.scope}/".lower().startswith(f"{session.group_id}/".lower()):
                    roles.delete_by_id(str(one.id))


def delete(session: AzureSession, items: list[Item]) -> None:
    """Delete what does not depend on each other, side by side, and wait until it is gone.

    Raises:
        FixableError: Azure refuses it, or it takes longer than ``PATIENCE``.
    """
    if not items:
        return
    with console.progress_bar("Deleting", total=len(items)) as bar:
        waiting = [(item, _begin(session, item)) for item in items]
        deadline = time.monotonic() + PATIENCE
        while waiting:
            names = ", ".join(item.title for item, _ in waiting)
            bar.update(
                console.TASK, completed=len(items) - len(waiting), description=f"Deleting {names}"
            )
            if time.monotonic() > deadline:
                raise FixableError(
                    f"after {PATIENCE / 60:.0f} minutes still being deleted: {names}",
                    "it goes on in Azure: run the same command again",
                )
            waiting = [(item, poller) for item, poller in waiting if not _gone(item, poller)]


def _begin(session: AzureSession, item: Item) -> Any:
    def begin() -> Any:
        return session.resources.resources.begin_delete_by_id(
            item.path.lstrip("/"),
            api_version=item.api_version,
            params=dict(item.params),
            polling_interval=_POLL,
        )

    with azure_errors(f"deleting {item.title}"):
        return when_free(f"deleting {item.title}", begin)


def _gone(item: Item, poller: Any) -> bool:
    with azure_errors(f"deleting {item.title}"):
        poller.wait(PAUSE)
        if not poller.done():
            return False
        poller.result()
    console.err.print(f"deleted {item.title}", markup=False)
    return True


def purge(session: AzureSession) -> str:
    """Purge the deleted key vault; returns what remains to be said if that is not allowed.

    Raises:
        FixableError: Azure refuses it for another reason.
    """
    from azure.core.exceptions import HttpResponseError  # noqa: PLC0415 - azure is slow

    path = deleted_vault(session)
    if not path or not in_group(session, path):
        return ""
    name = path.rpartition("/")[2]
    try:
        with azure_errors(f"purging key vault {name}"):
            begin_purge(session)
    except FixableError as error:
        cause = error.__context__
        if isinstance(cause, HttpResponseError) and cause.status_code == _FORBIDDEN:
            return f"; deleted key vault {name} keeps its name for a week: you may not purge it"
        raise
    deadline = time.monotonic() + PURGE_FOR
    while deleted_vault(session):
        if time.monotonic() > deadline:
            return f"; key vault {name} is still being purged"
        time.sleep(PAUSE)
    console.err.print(f"purged key vault {name}", markup=False)
    return ""


def delete_group(session: AzureSession) -> None:
    """Delete the recipe's resource group with all that is in it.

    Raises:
        FixableError: Azure refuses it.
    """
    name = f"resource group {session.group}"
    with azure_errors(f"deleting {name}"), console.progress_bar(f"Deleting {name}"):
        groups = session.resources.resource_groups
        groups.begin_delete(session.group, polling_interval=_POLL).result()
