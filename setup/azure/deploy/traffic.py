"""Two slots, blue and green, and how an endpoint's requests are shared between them.

A new version goes into the slot without traffic, and the other one answers until it has taken over:
then that one is what a rollback goes back to. Deployments that are named after their version, as
all were once, count as ours too until a slot has taken over from them. What somebody else has
deployed beside them is never touched.

The endpoint's tags remember what its traffic does not show: which version answered before, and
which one a rollback took the traffic from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from setup.azure.deploy.deployment import slot_names, versioned_name
from setup.azure.deploy.registration import age
from setup.recipe.azure import AzureRecipe

if TYPE_CHECKING:
    from azure.ai.ml.entities import ManagedOnlineDeployment, OnlineEndpoint

ENDED_BADLY = ("Failed", "Canceled")
_ROLLED_BACK, _PREVIOUS = "rolled-back", "previous"
_MODEL = re.compile(r"/models/([^/]+)/versions/([^/]+)$", re.IGNORECASE)


def live_traffic(endpoint: OnlineEndpoint | None) -> dict[str, int]:
    """Return the share of each deployment that has some, in per cent."""
    return {name: share for name, share in endpoint.traffic.items() if share} if endpoint else {}


def share_traffic(traffic: Mapping[str, int], new: str, canary: int) -> dict[str, int]:
    """Return the table in which ``new`` has at least ``canary`` per cent, and one other the rest.

    What ``new`` has beyond that, it keeps. A table in which it has enough stays as it is.
    """
    others = {name: share for name, share in traffic.items() if name != new and share}
    share = max(canary, traffic.get(new, 0))
    if not others or share >= 100:
        return {new: 100}
    if traffic.get(new, 0) >= canary and sum(traffic.values()) == 100:
        return dict(traffic)
    return {max(others, key=lambda name: others[name]): 100 - share, new: share}


class Slots:
    """The deployments of an endpoint as they are at one moment.

    Attributes:
        live: The share of each deployment that is sent requests.
        mirrors: The share of each that is sent copies of them.
        ours: Those in a slot, or named after the version of the recipe's model that they serve.
    """

    def __init__(
        self,
        recipe: AzureRecipe,
        endpoint: OnlineEndpoint | None,
        deployments: Mapping[str, ManagedOnlineDeployment],
    ) -> None:
        self._recipe = recipe
        self._all = deployments
        self._tags: Mapping[str, str] = (endpoint.tags if endpoint else None) or {}
        mirrors = (endpoint.mirror_traffic if endpoint else None) or {}
        self.mirrors = {name: share for name, share in mirrors.items() if share}
        self.live = live_traffic(endpoint)
        self.ours = {
            name: deployment for name, deployment in deployments.items() if self._is_ours(name)
        }

    def version(self, name: str) -> str:
        """Return the version of the recipe's model that a deployment serves, empty if of none."""
        model = _MODEL.search(str(self._all[name].model)) if name in self._all else None
        ours = model and model[1].lower() == self._recipe.registry.model.lower()
        return model[2] if model and ours else ""

    def is_idle(self, name: str) -> bool:
        """Tell whether a deployment is sent neither requests nor, as a mirror, copies of them."""
        return not self.live.get(name) and not self.mirrors.get(name)

    def place(self, version: str) -> str:
        """Return where ``version`` is, or else the slot it goes to; empty if neither is free.

        It is where it is served on the recipe's SKU, which cannot be changed, unless that ended
        badly and takes no traffic: https://github.com/Azure/AML-Kubernetes/issues/247
        """
        serving = [
            name
            for name, deployment in self.ours.items()
            if self.version(name) == version
            and self._has_sku(name)
            and not self.must_go_first(name)
            and deployment.provisioning_state != "Deleting"
        ]
        if serving:
            return max(serving, key=lambda name: self.live.get(name, 0))
        if len([name for name in self.ours if not self.is_idle(name)]) > 1:
            return ""
        free = [name for name in slot_names(self._recipe) if self.is_idle(name)]
        return min(free, key=lambda name: (self._is_previous(name), name not in self.ours))

    def must_go_first(self, name: str) -> bool:
        """Tell whether what is in a slot cannot be changed into what the recipe says."""
        deployment = self.ours.get(name)
        if deployment is None or not self.is_idle(name):
            return False
        return not self._has_sku(name) or deployment.provisioning_state in ENDED_BADLY

    def crowded_out(self, name: str) -> list[str]:
        """Return those that go before ``name`` is made: at most two of ours are billed."""
        others = [other for other in self.ours if other != name]
        idle = sorted(filter(self.is_idle, others), key=self._worth, reverse=True)
        return idle[1 if len(idle) == len(others) else 0 :]

    def superseded(self, name: str) -> list[str]:
        """Return those that go once ``name`` takes all the traffic.

        With ``endpoint.keep_previous`` the one that a rollback goes back to stays.
        """
        kept = self.way_back(name) if self._recipe.endpoint.keep_previous else ""
        going = [other for other in self.ours if not self.mirrors.get(other)]
        return sorted(other for other in going if other not in (name, kept))

    def _worth(self, name: str) -> tuple[bool, bool, tuple[int, str]]:
        return self.is_healthy(name), self._is_previous(name), self._age(name)

    def is_healthy(self, name: str) -> bool:
        """Tell whether a deployment is there, and its last operation went well."""
        return name in self._all and self._all[name].provisioning_state == "Succeeded"

    def _age(self, name: str) -> tuple[int, str]:
        if name not in self._all:
            return age("")
        return age(self.version(name) or str(self._all[name].model).rpartition("/")[2])

    def current(self) -> str:
        """Return the newest deployment with traffic, one of ours if any has some; else empty."""
        taking = [name for name in self._all if self.live.get(name)]
        ours = [name for name in taking if name in self.ours]
        return max(ours or taking, key=self._newness, default="")

    def _newness(self, name: str) -> tuple[tuple[int, str], bool, int]:
        """Order by version; two slots serve the same one while another SKU takes over."""
        return self._age(name), self._has_sku(name), -self.live.get(name, 0)

    def _has_sku(self, name: str) -> bool:
        sku = str(self._all[name].instance_type)
        return sku.lower() == self._recipe.endpoint.sku.lower()

    def way_back(self, current: str) -> str:
        """Return what a rollback from ``current`` goes back to, empty where there is nothing.

        The healthy one with most traffic, else the one that answered before, else an older one of
        ours: never one that was rolled back, nor somebody else's that nobody was sent to.
        """
        candidates = [
            name
            for name in self._all
            if name != current
            and self.is_healthy(name)
            and (name in self.live or self._may_follow(name, current))
        ]
        return max(
            candidates,
            key=lambda name: (self.live.get(name, 0), self._is_previous(name), self._age(name)),
            default="",
        )

    def _may_follow(self, name: str, current: str) -> bool:
        if self.is_rolled_back(name):
            return False
        older = name in self.ours and self._age(name) < self._age(current)
        return older or self._is_previous(name)

    def is_rolled_back(self, name: str, version: str = "") -> bool:
        """Tell whether a rollback took the traffic from what a slot serves, or is to serve."""
        words = self._tags.get(_ROLLED_BACK, "").split()
        return not self.live.get(name) and not self._known_as(name, version).isdisjoint(words)

    def tags_after(self, traffic: Mapping[str, int], taken_from: str = "") -> dict[str, str]:
        """Return the endpoint's tags once ``traffic`` is how it is shared.

        ``taken_from`` is the deployment that a rollback takes it from, empty where none does.
        """
        leading = max(traffic, key=lambda name: traffic[name], default="")
        before = [name for name in self.live if name not in (leading, taken_from)]
        last = max(before, key=lambda name: self.live[name], default="")
        previous = self._word(last) if last else self._tags.get(_PREVIOUS, "")
        if not last and any(self._is_previous(name) for name in (leading, taken_from) if name):
            previous = ""
        back = self._tags.get(_ROLLED_BACK, "")
        if any(self.is_rolled_back(name) for name in traffic):
            back = ""
        said = {_PREVIOUS: previous, _ROLLED_BACK: self._word(taken_from) if taken_from else back}
        rest = {key: value for key, value in self._tags.items() if key not in said}
        return rest | {key: value for key, value in said.items() if value}

    def _is_ours(self, name: str) -> bool:
        version = self.version(name)
        named = bool(version) and name == versioned_name(self._recipe, version)
        return named or name in slot_names(self._recipe)

    def _is_previous(self, name: str) -> bool:
        return name in self._all and self._tags.get(_PREVIOUS) in self._known_as(name)

    def _known_as(self, name: str, version: str = "") -> set[str]:
        """Return what the tags call a deployment: one of ours by its version, for slots change it.

        They once had the names of deployments, which then had their version in them.
        """
        version = version or (self.version(name) if name in self.ours else "")
        return {version, versioned_name(self._recipe, version)} if version else {name}

    def _word(self, name: str) -> str:
        return (self.version(name) if name in self.ours else "") or name
