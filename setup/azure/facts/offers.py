"""The offer of a subscription, told by its quotaId: what it pays with, and what it cannot have."""

from __future__ import annotations

from typing import NamedTuple

from setup.azure.client.session import AzureSession
from setup.azure.facts import dated_table


class Offer(NamedTuple):
    """An offer: ``name`` is empty for one that pays as it goes, or that the table does not know."""

    quota_id: str
    name: str = ""
    gpus: bool = True
    tasks: bool = True
    may_ask: bool = True

    @property
    def ends(self) -> bool:
        """Tell whether a credit is used up, and what it pays for then stops."""
        return bool(self.name)


def offer_of(session: AzureSession) -> Offer:
    """Return the offer of the session's subscription."""
    policies = session.subscription.get("subscriptionPolicies") or {}
    quota_id = str(policies.get("quotaId") or "")
    for row in dated_table("offers")["offers"]:
        if quota_id.lower().startswith(row["starts"].lower()):
            gpus, tasks = row.get("gpu") != "none", row.get("tasks") != "refused"
            return Offer(quota_id, row["name"], gpus, tasks, row.get("quota") != "fixed")
    return Offer(quota_id)


def builds_on_cluster(session: AzureSession) -> bool:
    """Tell whether the cluster builds images: tasks of a registry reach no private network."""
    azure = session.recipe.azure
    if azure.image_build != "auto":
        return azure.image_build == "cluster"
    return not (azure.public_network and offer_of(session).tasks)
