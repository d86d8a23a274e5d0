"""Deleting for good in Azure: side by side what can be, waited for, with progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from setup import console
from setup.azure.explain import azure_errors, explain
from setup.azure.names import derive_names
from setup.azure.ours import status_of
from setup.azure.remnants import Item
from setup.azure.session import AzureSession
from setup.azure.vault import deleted_vault, is_ours, look_for_deleted
from setup.azure.vault import purge as begin_purge
from setup.azure.waiting import when_free
from setup.errors import FixableError

PATIENCE = 3600.0  # seconds for one wave: a workspace takes minutes, an endpoint up to ten
PURGE_FOR = 300.0
PAUSE = 5.0
_POLL = 5  # seconds between looks of the SDK, where Azure names no pace
_FORBIDDEN, _GONE = 403, 404
_NO_PURGE = (403, 405, 409)  # no right to, or somebody's policy has switched purge protection on


def revoke(session: AzureSession, identities: list[Item]) -> str:
    """Take the roles of our identities in the group: they would stay, with nobody to hold them.

    Returns what remains to be said if that is not allowed: it costs nothing, so it stops nothing.

    Raises:
        FixableError: Azure refuses it for another reason.
    """
    for identity in identities:
        try:
            with azure_errors(f"taking the roles of {identity.title}"):
                _take_roles(session, identity)
        except FixableError as error:
            if status_of(error) != _FORBIDDEN:
                raise
            return f"; the roles of {identity.title} stay: you may not take them"
    return ""


def _take_roles(session: AzureSession, identity: Item) -> None:
    found = session.arm.find(identity.path, identity.api_version)
    if found is None:
        return
    roles, principal = session.authorization.role_assignments, found["properties"]["principalId"]
    given = roles.list_for_scope(session.group_id, filter=f"principalId eq '{principal}'")
    for one in list(given):
        if f"{one.scope}/".lower().startswith(f"{session.group_id}/".lower()):
            roles.delete_by_id(str(one.id))


def delete(session: AzureSession, items: list[Item]) -> None:
    """Delete what does not depend on each other, side by side, and wait until it is gone.

    What Azure refuses keeps nothing else from being deleted.

    Raises:
        FixableError: Azure refuses one, or it takes longer than ``PATIENCE``.
    """
    if not items:
        return
    refusals: list[FixableError] = []
    with console.progress_bar("Deleting", total=len(items)) as bar:
        waiting = [(item, _try(refusals, partial(_begin, session, item))) for item in items]
        waiting = [(item, poller) for item, poller in waiting if poller]
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
            waiting = [
                (item, poller)
                for item, poller in waiting
                if _try(refusals, partial(_goes_on, item, poller))
            ]
    if refusals:
        raise refusals[0]


def _try(refusals: list[FixableError], work: Callable[[], Any]) -> Any:
    """What ``work`` returns; None, and one refusal more, where it fails."""
    try:
        return work()
    except FixableError as error:
        refusals.append(error)
        return None


def _begin(session: AzureSession, item: Item) -> Any:
    """Follows the deletion; None where there is nothing to delete any more."""
    from azure.core.exceptions import (  # noqa: PLC0415 - azure is slow
        ResourceExistsError,
        ResourceNotFoundError,
    )

    def begin() -> Any:
        try:
            return session.resources.resources.begin_delete_by_id(
                item.path.lstrip("/"),
                api_version=item.api_version,
                params=dict(item.params),
                polling_interval=_POLL,
            )
        except ResourceNotFoundError:
            return None
        except ResourceExistsError as error:
            if "ScopeLocked" in str(error):  # no operation, which would end by itself
                raise explain(error, f"deleting {item.title}") from None
            raise

    with azure_errors(f"deleting {item.title}"):
        return when_free(f"deleting {item.title}", begin)


def _goes_on(item: Item, poller: Any) -> bool:
    from azure.core.exceptions import HttpResponseError  # noqa: PLC0415 - azure is slow

    with azure_errors(f"deleting {item.title}"):
        poller.wait(PAUSE)
        if not poller.done():
            return True
        try:
            poller.result()
        except HttpResponseError as error:
            if error.status_code != _GONE:  # with some, what tells how it went goes too
                raise
    console.err.print(f"deleted {item.title}", markup=False)
    return False


def purge(session: AzureSession, gone: list[Item]) -> str:
    """Purge the deleted key vault; returns what remains to be said if that is not allowed.

    ``gone`` is what was deleted just now.

    Raises:
        FixableError: Azure refuses it for another reason.
    """
    name = derive_names(session.recipe, session.subscription_id).key_vault
    try:
        deleted = look_for_deleted(session)
    except FixableError as error:
        if status_of(error) != _FORBIDDEN:
            raise
        unseen = f"; key vault {name} may keep its name for days: you may not look for deleted ones"
        return unseen if any(item.name == name for item in gone) else ""
    if deleted is None or not is_ours(session, deleted):
        return ""
    try:
        with azure_errors(f"purging key vault {name}"):
            begin_purge(session)
    except FixableError as error:
        if status_of(error) in _NO_PURGE:
            return f"; deleted key vault {name} keeps its name for days: you may not purge it"
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
