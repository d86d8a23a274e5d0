"""What is special about each resource type; services add theirs to ``KINDS``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.azure.fake.messages import AzureError
from tests.azure.fake.store import Id, Resource

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure


def _nothing(*_: Any) -> None:
    """Most types need nothing more."""


@dataclass(frozen=True)
class Kind:
    """A resource type.

    Attributes:
        slow: PUT and PATCH are long-running operations.
        slow_delete: DELETE is one.
        accepted: The status of a slow PUT, and of a quick one that made something.
        removed: The status of a slow DELETE.
        stateful: It has ``properties.provisioningState``.
        refuse: Raises AzureError for what Azure would refuse; called before anything is kept.
        complete: Adds what the service adds; called whenever the resource is written.
        failed: Called when its creation failed.
        keep: Raises AzureError where Azure would refuse to delete it.
        gone: Called when it was deleted.
    """

    slow: bool = False
    slow_delete: bool = False
    accepted: int = 201
    removed: int = 202
    stateful: bool = True
    refuse: Callable[[FakeAzure, Id, dict[str, Any]], None] = _nothing
    complete: Callable[[FakeAzure, Resource], None] = _nothing
    failed: Callable[[FakeAzure, Resource, AzureError], None] = _nothing
    keep: Callable[[FakeAzure, Resource], None] = _nothing
    gone: Callable[[FakeAzure, Resource], None] = _nothing


KINDS: dict[str, Kind] = {}
PLAIN = Kind()


def kind_of(kind: str) -> Kind:
    """What is special about a type, in any case."""
    return KINDS.get(kind.lower(), PLAIN)
