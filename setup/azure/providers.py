"""Resource providers: what a subscription has to have registered before it can make a thing."""

from __future__ import annotations

import time
from collections.abc import Iterable

from setup import console
from setup.azure.explain import FORBIDDEN, status_of
from setup.azure.infra import template
from setup.azure.session import AzureSession, azure_errors
from setup.errors import FixableError

REGISTER_FOR = 600.0  # seconds that registering may take
PAUSE = 5.0


def missing_providers(session: AzureSession, needed: Iterable[str]) -> list[str]:
    """Those of ``needed`` that the subscription has not registered.

    Raises:
        FixableError: Azure cannot be asked; reading them takes a right on the subscription.
    """
    with azure_errors("listing the resource providers"):
        listed = {
            (one.namespace or "").lower(): one.registration_state
            for one in session.resources.providers.list()
        }
    return [name for name in needed if listed.get(name.lower()) != "Registered"]


def unregistered(session: AzureSession) -> list[str]:
    """Those of the template that the subscription does not have yet.

    None for a login with rights on the group alone: the deployment then says what is missing.

    Raises:
        FixableError: Azure cannot be asked.
    """
    needed = dict.fromkeys(entry["type"].partition("/")[0] for entry in template()["resources"])
    try:
        return missing_providers(session, needed)
    except FixableError as error:
        if status_of(error) != FORBIDDEN:
            raise
        return []


def register(session: AzureSession) -> None:
    """Register what the template needs, and wait for it.

    Raises:
        FixableError: Azure refuses it, or it takes longer than ``REGISTER_FOR``.
    """
    waiting = unregistered(session)
    for name in waiting:
        console.err.print(f"registering resource provider {name}", markup=False)
        with azure_errors(f"registering resource provider {name}"):
            session.resources.providers.register(name)
    deadline = time.monotonic() + REGISTER_FOR
    while waiting and (waiting := unregistered(session)):
        if time.monotonic() > deadline:
            raise FixableError(
                f"still registering after {REGISTER_FOR / 60:.0f} minutes: {', '.join(waiting)}",
                "run the same command again in a few minutes",
            )
        time.sleep(PAUSE)
