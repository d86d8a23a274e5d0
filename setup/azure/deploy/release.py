"""Rollout: a registered version in the slot without traffic, asked before it gets any.

1. The version goes into the slot without traffic, in place of what is there: blue or green.
2. It is asked a few questions over ``/score``, as clients ask, by the header that names it.
3. ``endpoint.canary`` per cent of the traffic go to it, or all.
4. When it has all and has answered again, the other slot stays for a rollback, or is deleted
   without ``endpoint.keep_previous``; so is what was named after its version.

A changed setting changes the deployment where it is, and it is asked again afterwards; only another
SKU goes into the other slot.

What fails in 1 or 2 leaves the traffic as it was, and what takes traffic is never deleted. A
version that traffic was taken from by a rollback gets none again.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from setup.azure.client import waiting
from setup.azure.client.money import Billable, confirm
from setup.azure.client.session import AzureSession
from setup.azure.deploy.autoscale import Autoscale
from setup.azure.deploy.container import IMAGES, Container
from setup.azure.deploy.deployment import describe_deployment, is_as_described, price_of
from setup.azure.deploy.online_endpoint import ManagedEndpoint
from setup.azure.deploy.registration import ModelVersion
from setup.azure.deploy.smoke import NoAnswerError, ask_deployment
from setup.azure.deploy.traffic import Slots, share_traffic
from setup.azure.deploy.why_failed import Diagnosis
from setup.common import console
from setup.common.errors import FixableError

if TYPE_CHECKING:
    from azure.ai.ml.entities import ManagedOnlineDeployment

_IMAGE = 2400.0  # seconds to build an image and get a machine, beside what the probes allow
_DELETING = "deleting"


class Rollout:
    """One version on its way to the traffic."""

    def __init__(self, session: AzureSession, version: ModelVersion) -> None:
        self.session = session
        self.recipe = session.recipe
        self.version = version
        self.endpoint = ManagedEndpoint(session)
        self.name = self._place(self.endpoint.slots())
        self.deleted: list[str] = []  # names, of what made room for it or was superseded by it
        self.replaced = ""  # the version that was in the slot
        own = self.recipe.endpoint.kind in IMAGES
        self.container = Container(session, self.name) if own else None
        self.autoscale = Autoscale(session, self.name)
        self._fails = Diagnosis(session, self.endpoint, self.name, version)

    def _place(self, slots: Slots) -> str:
        if name := slots.place(self.version.version):
            return name
        shares = [f"{name} {share} %" for name, share in slots.live.items()]
        shares += [f"{name} copies of {share} %" for name, share in slots.mirrors.items()]
        newest = self.recipe.command("traffic", f"{slots.current()}=100")
        fix = f"{self.recipe.command('rollback')} ends the canary, or {newest} "
        fix += "gives it everything"
        if slots.mirrors:
            none = (f"{name}=0" for name in slots.mirrors)
            fix = self.recipe.command("traffic", "--mirror", *none)
        raise FixableError(
            f"no slot of endpoint {self.endpoint.name} is free for version {self.version.version} "
            f"of {self.version.name}: {', '.join(shares)}",
            f"{fix}; then the same command again",
        )

    def is_right(self, deployment: ManagedOnlineDeployment | None) -> bool:
        """Tell whether the deployment is there, healthy and as the recipe says."""
        if deployment is None or deployment.provisioning_state != "Succeeded":
            return False
        environment = self.container.find() if self.container else ""
        if self.container and not environment:
            return False
        return is_as_described(deployment, self._description(environment, deployment))

    @property
    def price(self) -> Billable:
        """The price of the deployment as the recipe has it, of as many instances as it may have."""
        return price_of(self.recipe, self.endpoint.name, self.name)

    def rescales(self) -> bool:
        """Tell whether autoscale is given other bounds, and the deployment with them a price."""
        return self.recipe.endpoint.scale is not None and not self.autoscale.is_right()

    def deploy(self) -> bool:
        """See that the deployment is there and healthy; False when it was."""
        deployment = self.find()
        waited = deployment is not None and waiting.under_way(deployment.provisioning_state)
        if waited:
            deployment = self._settled()
        right = self.is_right(deployment)
        if not right or self.rescales():
            confirm([self.price])
        if right:
            return waited
        self.endpoint.ensure()
        environment = self.container.ensure() if self.container else ""
        slots = self.endpoint.slots()
        self._delete(slots.crowded_out(self.name))
        if (there := slots.version(self.name)) != self.version.version:
            self.replaced = there
        if slots.must_go_first(self.name):
            self.endpoint.delete(self.name)
        self._put(self._description(environment, deployment))
        return True

    def shares(self, slots: Slots) -> dict[str, int]:
        """Return the traffic as it is to be: as it is, for a version that was rolled back."""
        if slots.is_rolled_back(self.name, self.version.version):
            return slots.live
        return share_traffic(slots.live, self.name, self.recipe.endpoint.canary)

    def give_traffic(self, changed: bool) -> bool:
        """Ask the deployment, then give it what the recipe says; False when it had that.

        It is asked even then: a change that went wrong must not look right the second time. One
        that is as it was and keeps its traffic may be too busy to answer. One that gets no traffic,
        for it was rolled back, is asked only if it was ``changed``.
        """
        slots = self.endpoint.slots()
        shares = self.shares(slots)
        if changed or self.name in shares:
            self._answers(slots, may_be_busy=shares == slots.live and not changed)
        if shares == slots.live:
            return False
        self.endpoint.shift(shares)
        return True

    def delete_superseded(self) -> None:
        """Delete what this deployment supersedes, once it takes all traffic and answers.

        Nothing goes while it is too busy to answer.
        """
        slots = self.endpoint.slots()
        if slots.live != {self.name: 100}:
            return
        names = slots.superseded(self.name)
        if names and self._answers(slots, may_be_busy=True):
            self._delete(names)

    def _delete(self, names: list[str]) -> None:
        for name in names:
            self.endpoint.delete(name)
            self.deleted.append(name)

    def find(self) -> ManagedOnlineDeployment | None:
        """Return the deployment, None where there is none."""
        return self.endpoint.deployment(self.name)

    def _settled(self) -> ManagedOnlineDeployment | None:
        """Return the deployment when nothing is under way on it any more."""
        if self._state().lower() == _DELETING:
            waiting.follow(f"Deleting deployment {self.name}", None, self._state, _IMAGE)
        else:
            self._finish(None)
        return self.find()

    def _state(self) -> str:
        deployment = self.find()
        return str(deployment.provisioning_state) if deployment else "missing"

    def _description(
        self, environment: str, there: ManagedOnlineDeployment | None
    ) -> ManagedOnlineDeployment:
        """The deployment as the recipe has it; where it scales, as many instances as are there."""
        description = describe_deployment(self.recipe, self.name, self.endpoint.name, self.version)
        scale = self.recipe.endpoint.scale
        if scale and there and there.instance_count:
            description.instance_count = min(max(there.instance_count, scale.min), scale.max)
        if self.container:
            description.environment = environment
            description.environment_variables = self.container.variables
        return description

    def _put(self, description: ManagedOnlineDeployment) -> None:
        from azure.core.exceptions import HttpResponseError

        def begin() -> Any:
            state = self._state()
            if waiting.under_way(state) and state.lower() != _DELETING:
                return None
            # A copy, for azure-ai-ml changes a data collector while it writes it.
            asked = deepcopy(description)
            return self.endpoint.ml.online_deployments.begin_create_or_update(asked)

        with self.session.errors(self._fails.what), waiting.nothing_printed():
            try:
                poller = waiting.when_free(self._fails.what, begin)
            except HttpResponseError as error:
                if not self._fails.cores_came_free(error):
                    raise self._fails.refused(error) from None
            else:
                if self._finish(poller):
                    return
                self.endpoint.delete(self.name)
            self._put(description)

    def _finish(self, poller: Any) -> bool:
        """Wait for its end; False where it failed for want of cores that are free now."""
        from azure.core.exceptions import HttpResponseError

        settings = self.recipe.endpoint
        patience = _IMAGE + settings.liveness.longest + settings.readiness.longest
        what = f"Deployment {self.name} on {settings.sku}"
        with self.session.errors(self._fails.what), waiting.nothing_printed():
            try:
                state = waiting.follow(what, poller, self._state, patience)
            except HttpResponseError as error:
                if error.status_code in (401, 403, 429) or self._state() != "Failed":
                    raise
                failed = self.endpoint.slots().must_go_first(self.name)
                if failed and self._fails.cores_came_free(error):
                    return False
                raise self._fails.failed(error) from None
        if state != "Succeeded":
            raise self._fails.failed(None)
        return True

    def _answers(self, slots: Slots, may_be_busy: bool) -> bool:
        """Ask it; False only where it ``may_be_busy``, takes traffic, and is."""
        uri = str(self.endpoint.need().scoring_uri)
        try:
            ask_deployment(self.recipe, uri, self.endpoint.key(), self.name)
        except NoAnswerError as error:
            if may_be_busy and error.busy and self.name in slots.live:
                console.err.print(f"deployment {self.name} {error}: it is busy", markup=False)
                return False
            raise self._fails.no_answer(error) from None
        return True
