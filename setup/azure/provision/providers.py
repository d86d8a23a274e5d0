"""Resource providers: what a subscription has to have registered before it can make a thing."""

from __future__ import annotations

from collections.abc import Iterable

from setup.azure.client.session import AzureSession
from setup.azure.client.waiting import wait_until
from setup.azure.provision.infra import template
from setup.common import console
from setup.common.errors import FixableError

REGISTER_FOR = 600.0  # seconds that registering may take
_PAUSE = 5.0


def missing_providers(session: AzureSession, needed: Iterable[str]) -> list[str]:
    """List those of ``needed`` that are not registered; it takes a right on the subscription."""
    with session.errors("listing the resource providers"):
        listed = session.arm.list(_path(session), session.arm.resources_version)
    states = {str(row["namespace"]).lower(): row.get("registrationState") for row in listed}
    return [name for name in needed if states.get(name.lower()) != "Registered"]


def unregistered(session: AzureSession) -> list[str]:
    """List those of the template that the subscription does not have yet.

    None for a login with rights on the group alone: the deployment then says what is missing.
    """
    needed = dict.fromkeys(entry["type"].partition("/")[0] for entry in template()["resources"])
    try:
        return missing_providers(session, needed)
    except FixableError as error:
        if not session.is_forbidden(error):
            raise
        return []


def register(session: AzureSession) -> None:
    """Register what the template needs, and wait for it, ``REGISTER_FOR`` at most."""
    missing = unregistered(session)
    for name in missing:
        console.err.print(f"registering resource provider {name}", markup=False)
        with session.errors(f"registering resource provider {name}"):
            path = f"{_path(session)}/{name}/register"
            session.arm.post(path, api_version=session.arm.resources_version)
    if missing:
        what = f"registering {', '.join(missing)}"
        wait_until(lambda: not unregistered(session), REGISTER_FOR, _PAUSE, what)


def _path(session: AzureSession) -> str:
    return f"/subscriptions/{session.subscription_id}/providers"
