"""Rollout: a registered version as a deployment of its own, asked before it gets traffic.

1. The version gets a deployment named after it (``tuned-3``) beside the others, without traffic.
2. It is asked a few questions over ``/score``, as clients ask, by the header that names it.
3. ``endpoint.canary`` per cent of the traffic go to it, or all.
4. When it has all and has answered again, what it supersedes is deleted: with
   ``endpoint.keep_previous`` all but the deployment that a rollback goes back to.

A changed setting changes the deployment where it is, and it is asked again afterwards.

What fails in 1 or 2 leaves the traffic as it was. What takes traffic is never deleted, and before 4
only a deployment of the same name that failed. A version that traffic was taken from by a rollback
gets none again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from setup import console
from setup.azure.ask import confirm
from setup.azure.container import Container
from setup.azure.deployment import deployment_name, is_as_wanted, price_of, wanted_deployment
from setup.azure.endpoint import ManagedEndpoint
from setup.azure.idle import wait_for_idle_nodes
from setup.azure.recipe import Probe
from setup.azure.rollout_errors import failed, is_out_of_quota, no_answer, refused
from setup.azure.session import AzureSession, azure_errors
from setup.azure.smoke import NoAnswerError, ask_deployment
from setup.azure.superseded import superseded
from setup.azure.traffic import live_traffic, rolled_back, share_traffic, takes_traffic
from setup.azure.version import ModelVersion
from setup.azure.waiting import follow, nothing_printed, under_way, when_free
from setup.errors import FixableError

if TYPE_CHECKING:
    from azure.ai.ml.entities import ManagedOnlineDeployment, OnlineEndpoint

_IMAGE = 2400.0  # seconds to build an image and get a machine, beside what the probes allow
_DELETING = "deleting"
_ENDED_BADLY = ("Failed", "Canceled")


class Rollout:
    """One version on its way to the traffic.

    Every method raises FixableError where Azure refuses or cannot be asked.
    """

    def __init__(self, session: AzureSession, version: ModelVersion) -> None:
        self.session = session
        self.recipe = session.recipe
        self.version = version
        self.endpoint = ManagedEndpoint(session)
        self.name = deployment_name(self.recipe.endpoint.deployment, version.version)
        gguf = self.recipe.endpoint.kind == "gguf"
        self.container = Container(session, self.name) if gguf else None
        self.what = f"deployment {self.name} of endpoint {self.endpoint.name}"

    def is_right(self, found: ManagedOnlineDeployment | None) -> bool:
        """Whether the deployment is there, healthy and as the recipe says."""
        if found is None or found.provisioning_state != "Succeeded":
            return False
        environment = self.container.find() if self.container else ""
        if self.container and not environment:
            return False
        return is_as_wanted(found, self._wanted(environment))

    def replaces(self, found: ManagedOnlineDeployment | None) -> bool:
        """Whether the deployment that is there has failed, and goes before another is made."""
        if found is None or found.provisioning_state not in _ENDED_BADLY:
            return False
        return not takes_traffic(self.endpoint.find(), self.name)

    def refuse_other_sku(self, found: ManagedOnlineDeployment | None) -> None:
        """Raise FixableError if the deployment that is there runs on another SKU than the recipe's.

        Azure does not change it: https://github.com/Azure/AML-Kubernetes/issues/247
        """
        wanted = self.recipe.endpoint.sku
        if found is None or str(found.instance_type).lower() == wanted.lower():
            return
        if not self.replaces(found):
            raise FixableError(
                f"{self.what} runs on {found.instance_type}, the recipe says {wanted}",
                "--set endpoint.deployment=ANOTHER makes one beside it: the SKU cannot be changed",
            )

    def deploy(self) -> bool:
        """See that the deployment is there and healthy; False when it was.

        Raises:
            FixableError: It costs and nobody agreed, it has another SKU, or it does not come up.
        """
        found = self.find()
        waited = found is not None and under_way(found.provisioning_state)
        if waited:
            found = self._settled()
        if self.is_right(found):
            return waited
        self.refuse_other_sku(found)
        confirm([price_of(self.recipe, self.endpoint.name, self.name)])
        self.endpoint.ensure()
        environment = self.container.ensure() if self.container else ""
        if self.replaces(found):
            self.endpoint.delete(self.name)
        self._put(self._wanted(environment))
        return True

    def give_traffic(self, changed: bool) -> bool:
        """Ask the deployment, then give it what the recipe says; False when it had that.

        It is asked even then: a change that went wrong must not look right the second time. One
        that is as it was and keeps its traffic may be too busy to answer. One that gets no traffic,
        for it was rolled back, is asked only if it was ``changed``.

        Raises:
            FixableError: It does not answer; the traffic is as it was.
        """
        found = self.endpoint.need()
        traffic = live_traffic(found)
        wanted = share_traffic(traffic, self.name, self.recipe.endpoint.canary)
        if self.name in rolled_back(found):
            wanted = traffic
        if changed or self.name in wanted:
            self._answers(found, may_be_busy=wanted == traffic and not changed)
        if wanted == traffic:
            return False
        self.endpoint.shift(wanted)
        return True

    def beside(self, found: OnlineEndpoint | None) -> dict[str, ManagedOnlineDeployment]:
        """The other deployments, those that are sent copies of requests left out."""
        mirrors = found.mirror_traffic if found else {}
        others = self.endpoint.deployments().items()
        return {name: one for name, one in others if name != self.name and not mirrors.get(name)}

    def delete_superseded(self) -> list[str]:
        """Delete what this deployment supersedes, once it takes all traffic and answers.

        Nothing goes while it is too busy to answer.

        Raises:
            FixableError: It does not answer; nothing is deleted.
        """
        found = self.endpoint.need()
        if live_traffic(found) != {self.name: 100}:
            return []
        names = superseded(self.recipe, found, self.beside(found), self.version.version)
        if names and not self._answers(found, may_be_busy=True):
            return []
        for name in names:
            self.endpoint.delete(name)
        return names

    def find(self) -> ManagedOnlineDeployment | None:
        """The deployment, None where there is none."""
        return self.endpoint.deployment(self.name)

    def _settled(self) -> ManagedOnlineDeployment | None:
        """The deployment when nothing is under way on it any more."""
        if self._state().lower() == _DELETING:
            follow(f"Deleting deployment {self.name}", None, self._state, _IMAGE)
        else:
            self._finish(None)
        return self.find()

    def _state(self) -> str:
        found = self.find()
        return str(found.provisioning_state) if found else "missing"

    def _wanted(self, environment: str) -> ManagedOnlineDeployment:
        wanted = wanted_deployment(self.recipe, self.name, self.endpoint.name, self.version)
        if self.container:
            wanted.environment = environment
            wanted.environment_variables = self.container.variables
        return wanted

    def _put(self, wanted: ManagedOnlineDeployment) -> None:
        from azure.core.exceptions import HttpResponseError  # noqa: PLC0415 - slow

        def begin() -> Any:
            state = self._state()
            if under_way(state) and state.lower() != _DELETING:
                return None
            return self.endpoint.ml.online_deployments.begin_create_or_update(wanted)

        with azure_errors(self.what), nothing_printed():
            try:
                poller = when_free(self.what, begin)
            except HttpResponseError as error:
                if not self._cores_came_free(error):
                    raise refused(self, error) from None
            else:
                if self._finish(poller):
                    return
                self.endpoint.delete(self.name)
            self._put(wanted)

    def _cores_came_free(self, error: Any) -> bool:
        return is_out_of_quota(error) and wait_for_idle_nodes(self.session)

    def _finish(self, poller: Any) -> bool:
        """Wait for its end; False where it failed for want of cores that are free now."""
        from azure.core.exceptions import HttpResponseError  # noqa: PLC0415 - slow

        given = self.recipe.endpoint
        patience = _IMAGE + _longest(given.liveness) + _longest(given.readiness)
        what = f"Deployment {self.name} on {given.sku}"
        with azure_errors(self.what), nothing_printed():
            try:
                state = follow(what, poller, self._state, patience)
            except HttpResponseError as error:
                if error.status_code in (401, 403, 429) or self._state() != "Failed":
                    raise
                if self.replaces(self.find()) and self._cores_came_free(error):
                    return False
                raise failed(self, error) from None
        if state != "Succeeded":
            raise failed(self, None)
        return True

    def _answers(self, found: OnlineEndpoint, may_be_busy: bool) -> bool:
        """Ask it; False only where it ``may_be_busy``, takes traffic, and is."""
        try:
            ask_deployment(self.recipe, str(found.scoring_uri), self.endpoint.key(), self.name)
        except NoAnswerError as error:
            if may_be_busy and error.busy and self.name in live_traffic(found):
                console.err.print(f"deployment {self.name} {error}: it is busy", markup=False)
                return False
            raise no_answer(self, found, error) from None
        return True


def _longest(probe: Probe) -> float:
    return probe.initial_delay + probe.period * probe.failure_threshold
