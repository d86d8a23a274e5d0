"""Resource providers: what a subscription has to have registered before it can make a thing."""

from __future__ import annotations

from collections.abc import Iterable

from setup.azure.client.explain import FORBIDDEN, status_of
from setup.azure.client.session import AzureSession, azure_errors
from setup.azure.client.waiting import wait_until
from setup.azure.provision.infra import template
from setup.common import console
from setup.common.errors import FixableError

REGISTER_FOR = 600.0  # seconds that registering may take
_PAUSE = 5.0


def missing_providers(session: AzureSession, needed: Iterable[str]) -> list[str]:
    """Those of ``needed`` that the subscription has not registered.

    Raises:
        FixableError: Azure cannot be asked; reading them takes a right on the subscription.
    """
    with azure_errors("listing the resource providers"):
        listed = {
            (provider.namespace or "").lower(): provider.registration_state
            for provider in session.resources.providers.list()
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
    missing = unregistered(session)
    for name in missing:
        console.err.print(f"registering resource provider {name}", markup=False)
        with azure_errors(f"registering resource provider {name}"):
            session.resources.providers.register(name)
    if missing:
        what = f"registering {', '.join(missing)}"
        wait_until(lambda: not unregistered(session), REGISTER_FOR, _PAUSE, what)
