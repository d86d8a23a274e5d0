"""Whether a name is free among those that all customers share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.azure.fake.messages import Reply, Request
from tests.azure.fake.router import ARM, Routes
from tests.azure.fake.store import Id

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

routes = Routes()


@routes.on("POST", ARM, "/subscriptions/{sub}/providers/{provider}/checkNameAvailability")
def check_name(azure: FakeAzure, request: Request, sub: str, provider: str) -> Reply:
    """Taken by a resource of anybody's, or by a vault that was deleted and not purged."""
    kind, name = request.body["type"].lower(), request.body["name"].lower()
    ids = [one.id for one in azure.store] + [Id(key) for key in azure.subscription.soft_deleted]
    if any(id_.kind.lower() == kind and id_.name.lower() == name for id_ in ids):
        taken = {"reason": "AlreadyExists", "message": f"The name {name} is already in use."}
        return Reply(body={"nameAvailable": False, **taken})
    return Reply(body={"nameAvailable": True})
