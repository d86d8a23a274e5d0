"""Resources by id, as Azure keeps them: ids compare without case, children go with their parent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.azure.fake.messages import AzureError

# Parents that Azure makes by itself, or that are no resources: their children need none.
_IMPLICIT = (
    "/locations/",
    "/blobservices/",
    "/fileservices/",
    "/models/",
    "/data/",
    "/components/",
    "/environments/",
    "/codes/",
)


CREATED = {
    "createdAt": "2026-11-22T12:00:00Z",
    "createdBy": "a person",
    "lastModifiedAt": "2026-11-22T12:00:00Z",
}
_GROUPS = re.compile("/resourcegroups/", re.IGNORECASE)


@dataclass(frozen=True)
class Id:
    """A resource id in parts: ``/subscriptions/S/resourceGroups/G/providers/NS/TYPE/NAME/…``."""

    text: str

    @property
    def key(self) -> str:
        """What ids are compared by."""
        return self.text.rstrip("/").lower()

    @property
    def scope(self) -> str:
        """What stands before the last ``/providers/``."""
        return self._split()[0]

    @property
    def kind(self) -> str:
        """The type, such as ``Microsoft.Storage/storageAccounts/blobServices``."""
        provider = self._split()[1]
        if not provider:
            return _SCOPES.get(self.text.count("/"), "")
        return "/".join([provider[0], *provider[1::2]])

    @property
    def name(self) -> str:
        """The last segment."""
        return self.text.rstrip("/").rpartition("/")[2]

    @property
    def is_collection(self) -> bool:
        """Whether it ends with a type: ``…/storageAccounts``."""
        count = len(self._split()[1])
        return count > 0 and count % 2 == 0

    @property
    def parent(self) -> str:
        """The id of what must be there first."""
        scope, provider = self._split()
        if len(provider) > 3:
            return self.text.rstrip("/").rsplit("/", 1 if self.is_collection else 2)[0]
        return scope if provider else self.text.rsplit("/", 2)[0]

    def _split(self) -> tuple[str, list[str]]:
        scope, found, rest = _rpartition(self.text.rstrip("/"), "/providers/")
        return (scope, rest.split("/")) if found else (self.text, [])


_SCOPES = {2: "Microsoft.Resources/subscriptions", 4: "Microsoft.Resources/resourceGroups"}


def _rpartition(text: str, separator: str) -> tuple[str, str, str]:
    place = text.lower().rfind(separator)
    return (
        (text[:place], separator, text[place + len(separator) :]) if place >= 0 else (text, "", "")
    )


@dataclass
class Resource:
    """A resource: ``body`` is what GET answers, ``hidden`` what it never does (secrets)."""

    id: Id
    body: dict[str, Any]
    hidden: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Its type in lower case."""
        return self.id.kind.lower()

    @property
    def properties(self) -> dict[str, Any]:
        """Its ``properties``."""
        found: dict[str, Any] = self.body.setdefault("properties", {})
        return found


class Store:
    """All resources of the subscription."""

    def __init__(self) -> None:
        self._resources: dict[str, Resource] = {}

    def __iter__(self) -> Iterator[Resource]:
        return iter(list(self._resources.values()))

    def get(self, id_: str) -> Resource | None:
        """The resource, or None."""
        return self._resources.get(Id(id_).key)

    def need(self, id_: str) -> Resource:
        """The resource.

        Raises:
            AzureError: 404, it or what it lies in is not there.
        """
        found = self.get(id_)
        if found is None:
            raise self.missing(Id(id_))
        return found

    def missing(self, id_: Id) -> AzureError:
        """The 404 for ``id_``; Azure says what is missing, the group or the resource."""
        group = "/".join(id_.text.split("/")[:5])
        if "/resourcegroups/" in id_.key and self.get(group) is None:
            message = f"Resource group '{Id(group).name}' could not be found."
            return AzureError(404, "ResourceGroupNotFound", message)
        message = f"The Resource '{id_.kind}/{id_.name}' was not found: {id_.text}"
        return AzureError(404, "ResourceNotFound", message)

    def put(self, id_: Id, body: dict[str, Any]) -> Resource:
        """Keep a resource; what was hidden of one that it replaces stays."""
        before = self._resources.get(id_.key)
        at = before.id if before else Id(_GROUPS.sub("/resourceGroups/", id_.text))
        head: dict[str, Any] = {"id": at.text, "name": at.name, "type": at.kind}
        if at.kind.lower().startswith("microsoft.machinelearningservices/"):
            head["systemData"] = CREATED
        resource = Resource(at, body | head, before.hidden if before else {})
        self._resources[id_.key] = resource
        return resource

    def require_parent(self, id_: Id) -> None:
        """Refuse a resource that lies in nothing.

        Raises:
            AzureError: 404.
        """
        parent = id_.parent
        if any(part in f"{parent.lower()}/" for part in _IMPLICIT):
            parent = next(
                parent[: parent.lower().find(part)]
                for part in _IMPLICIT
                if part in f"{parent.lower()}/"
            )
        if not self.get(parent) and not parent.lower().count("/") <= 2:
            raise self.missing(Id(parent))

    def delete(self, id_: str) -> list[Resource]:
        """Remove a resource and all that lies in it; returns them."""
        key = Id(id_).key
        gone = [at for at in self._resources if at == key or at.startswith(f"{key}/")]
        return [self._resources.pop(at) for at in gone]

    def children(self, collection: str) -> list[Resource]:
        """The resources of a collection path, in any group if its scope is the subscription."""
        id_ = Id(collection)
        kind, scope = id_.kind.lower(), id_.scope.lower()
        parent = id_.key.rpartition("/")[0]
        nested = kind.count("/") > 1
        return [
            resource
            for resource in self
            if resource.kind == kind
            and resource.id.key.startswith(f"{parent if nested else scope}/")
        ]
