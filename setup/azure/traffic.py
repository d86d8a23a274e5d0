"""How the requests to an endpoint are shared between its deployments, in per cent."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from azure.ai.ml.entities import OnlineEndpoint


def live_traffic(found: OnlineEndpoint | None) -> dict[str, int]:
    """The share of each deployment that has some; an endpoint names those without, too."""
    return {name: share for name, share in found.traffic.items() if share} if found else {}


def takes_traffic(found: OnlineEndpoint | None, deployment: str) -> bool:
    """Whether a deployment is sent requests, or copies of them as a mirror."""
    return bool(found and {**found.mirror_traffic, **live_traffic(found)}.get(deployment))


def share_traffic(traffic: dict[str, int], new: str, canary: int) -> dict[str, int]:
    """The table in which ``new`` has at least ``canary`` per cent, and one other has the rest.

    What has more already, keeps it.
    """
    others = {name: share for name, share in traffic.items() if name != new and share}
    if not others or canary == 100:
        return {new: 100}
    if traffic.get(new, 0) >= canary and sum(traffic.values()) == 100:
        return dict(traffic)
    return {max(others, key=lambda name: others[name]): 100 - canary, new: canary}
