"""Dedicated cores of Azure ML in a region: how many are in use, of how many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

TOTAL = "TotalDedicatedCores"  # Azure's name for what all families of a region share


class Cores(NamedTuple):
    """Cores in use, and how many may be: negative where Azure sets no limit."""

    used: int
    limit: int


class Usage:
    """The dedicated cores of a region by its list of usages.

    Args:
        rows: As Azure ML lists them. Dedicated and low-priority cores of a family come under one
            name: only ``type`` tells them apart, ``…/vmFamily/dedicatedCores/usages`` from
            ``…/lowPriorityCores/usages``. Rows of one workspace have its id. A count is null while
            the subscription's offer is not active.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._cores = {
            _key(row["name"]["value"]): Cores(row.get("currentValue") or 0, row.get("limit") or 0)
            for row in rows
            if _is_dedicated(row)
        }

    def of(self, family: str) -> Cores:
        """The cores of a VM family; none where the region does not list it."""
        return self._cores.get(_key(family), Cores(0, 0))

    def total(self) -> Cores:
        """The cores of all families together."""
        return self._cores.get(_key(TOTAL), Cores(0, -1))


def _is_dedicated(row: Mapping[str, Any]) -> bool:
    kind, path = str(row.get("type", "")).lower(), str(row.get("id", "")).lower()
    return "lowpriority" not in kind and "/workspaces/" not in path


def _key(family: str) -> str:
    """Its case, and blanks in it, differ between the lists of sizes and of usages."""
    return "".join(family.lower().split())
