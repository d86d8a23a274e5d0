"""How the requests to an endpoint are shared between its deployments, in per cent.

The endpoint's tags remember what its traffic does not show: what answered before, and what a
rollback took the traffic from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from azure.ai.ml.entities import OnlineEndpoint

_ROLLED_BACK = "rolled-back"  # the deployments that traffic was taken from, the last one first
_PREVIOUS = "previous"  # the deployment that had most traffic before the one that has it now
_REMEMBERED = 7  # names of up to 32 characters in a tag, which holds 256


def live_traffic(found: OnlineEndpoint | None) -> dict[str, int]:
    """The share of each deployment that has some; an endpoint names those without, too."""
    return {name: share for name, share in found.traffic.items() if share} if found else {}


def takes_traffic(found: OnlineEndpoint | None, deployment: str) -> bool:
    """Whether a deployment is sent requests, or copies of them as a mirror."""
    return bool(found and {**found.mirror_traffic, **live_traffic(found)}.get(deployment))


def share_traffic(traffic: dict[str, int], new: str, canary: int) -> dict[str, int]:
    """The table in which ``new`` has at least ``canary`` per cent, and one other has the rest.

    What ``new`` has beyond that, it keeps. A table in which it has enough stays as it is.
    """
    others = {name: share for name, share in traffic.items() if name != new and share}
    share = max(canary, traffic.get(new, 0))
    if not others or share >= 100:
        return {new: 100}
    if traffic.get(new, 0) >= canary and sum(traffic.values()) == 100:
        return dict(traffic)
    return {max(others, key=lambda name: others[name]): 100 - share, new: share}


def rolled_back(found: OnlineEndpoint | None) -> list[str]:
    """The deployments that a rollback took the traffic from and that have none again."""
    live = live_traffic(found)
    return [name for name in _tag(found, _ROLLED_BACK).split() if name not in live]


def previous(found: OnlineEndpoint | None) -> str:
    """The deployment that had most traffic before, empty where that is not known."""
    return _tag(found, _PREVIOUS)


def tags_after(
    found: OnlineEndpoint, traffic: Mapping[str, int], taken_from: str
) -> dict[str, str]:
    """The endpoint's tags once ``traffic`` is how it is shared.

    ``taken_from`` is the deployment that a rollback takes it from, empty where none does.
    """
    out = [taken_from, *(name for name in rolled_back(found) if name not in traffic)]
    leading = max(traffic, key=lambda name: traffic[name], default="")
    before = {n: share for n, share in live_traffic(found).items() if n not in (leading, *out)}
    last = max(before, key=lambda name: before[name], default=previous(found))
    said = {
        _ROLLED_BACK: " ".join(filter(None, out[:_REMEMBERED])),
        _PREVIOUS: "" if last in (leading, *out) else last,
    }
    tags = {key: value for key, value in (found.tags or {}).items() if key not in said}
    return tags | {key: value for key, value in said.items() if value}


def _tag(found: OnlineEndpoint | None, name: str) -> str:
    return str((found.tags or {}).get(name, "")) if found else ""
