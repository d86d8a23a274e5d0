"""Connections of a workspace: what they hold is shown only by ``listsecrets``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.azure.fake.kinds import KINDS, Kind
from tests.azure.fake.messages import AzureError, Reply, Request
from tests.azure.fake.router import ARM, Routes
from tests.azure.fake.store import Id, Resource
from tests.azure.fake.workspaces import WORKSPACE, WS

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

routes = Routes()


def _refuse(azure: FakeAzure, id_: Id, body: dict[str, Any]) -> None:
    properties = body["properties"]
    keys = (properties.get("credentials") or {}).get("keys")
    if properties.get("category") == "CustomKeys" and not keys:
        raise AzureError(400, "ValidationError", "A custom connection needs at least one key.")
    if "metadata" in properties and properties["metadata"] is None:
        raise AzureError(400, "ValidationError", "metadata is null; its readers expect an object.")


def _complete(azure: FakeAzure, connection: Resource) -> None:
    connection.hidden["credentials"] = connection.properties.pop("credentials", None)
    connection.properties.setdefault("metadata", {})
    connection.properties.setdefault("group", "AzureAI")
    connection.body.pop("location", None)


@routes.on("POST", ARM, f"{WS}/connections/{{name}}/listsecrets")
def list_secrets(azure: FakeAzure, request: Request, **_: str) -> Reply:
    connection = azure.store.need(request.path.rpartition("/")[0])
    properties = connection.properties | {"credentials": connection.hidden["credentials"]}
    return Reply(body=connection.body | {"properties": properties})


KINDS[f"{WORKSPACE}/connections"] = Kind(
    stateful=False, accepted=200, refuse=_refuse, complete=_complete
)
