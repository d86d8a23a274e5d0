"""Rollout: a registered version as a deployment of its own, asked before it gets traffic.

1. The version gets a deployment named after it (``tuned-3``) beside the others, without traffic.
2. It is asked a few questions over ``/score``, as clients ask, by the header that names it.
3. ``endpoint.canary`` per cent of the traffic go to it, or all.

What fails in 1 or 2 leaves the traffic as it was. The deployment before stays, as what a rollback
goes back to, and costs until it is deleted; none is deleted here but one of the same name that
failed and takes no traffic. A version that traffic was taken from by a rollback gets none again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from setup.azure.ask import confirm
from setup.azure.container import Container
from setup.azure.deployment import deployment_name, is_as_wanted, price_of, wanted_deployment
from setup.azure.deployment_failure import Cause, fetch_log, likely_cause
from setup.azure.endpoint import ManagedEndpoint
from setup.azure.explain import code_and_message, explain
from setup.azure.recipe import Probe
from setup.azure.session import AzureSession, azure_errors
from setup.azure.smoke import NoAnswerError, ask_deployment
from setup.azure.version import ModelVersion
from setup.azure.waiting import follow, nothing_printed, under_way, when_free
from setup.errors import FixableError

if TYPE_CHECKING:
    from azure.ai.ml.entities import ManagedOnlineDeployment

_IMAGE = 2400.0  # seconds to build an image and get a machine, beside what the probes allow
_UNKNOWN = Cause("no cause that is known here", "read the log and correct what it says")


class Rollout:
    """One version on its way to the traffic.

    Every method raises FixableError where Azure refuses or cannot be asked.
    """

    def __init__(self, session: AzureSession, version: ModelVersion) -> None:
        self._session = session
        self.recipe = session.recipe
        self.version = version
        self.endpoint = ManagedEndpoint(session)
        self.name = deployment_name(self.recipe.endpoint.deployment, version.version)
        gguf = self.recipe.endpoint.kind == "gguf"
        self.container = Container(session, self.name) if gguf else None
        self._what = f"deployment {self.name} of endpoint {self.endpoint.name}"

    def is_right(self) -> bool:
        """Whether the deployment is there, healthy and as the recipe says."""
        found = self._find()
        if found is None or found.provisioning_state != "Succeeded":
            return False
        environment = self.container.find() if self.container else ""
        if self.container and not environment:
            return False
        return is_as_wanted(found, self._wanted(environment))

    def deploy(self) -> bool:
        """See that the deployment is there and healthy; False when it was.

        Raises:
            FixableError: It costs and nobody agreed, it has another SKU, or it does not come up.
        """
        found = self._find()
        if found and under_way(found.provisioning_state):
            self._finish(None)
            return True
        if self.is_right():
            return False
        self._refuse_other_sku(found)
        confirm([price_of(self.recipe, self.endpoint.name, self.name)])
        self.endpoint.ensure()
        environment = self.container.ensure() if self.container else ""
        if found and found.provisioning_state == "Failed" and not self._traffic().get(self.name):
            self._delete()
        self._put(self._wanted(environment))
        return True

    def give_traffic(self) -> bool:
        """Ask the deployment, then give it what the recipe says; False when it had that.

        Raises:
            FixableError: It does not answer; the traffic is as it was.
        """
        found = self.endpoint.need()
        traffic = {name: share for name, share in found.traffic.items() if share}
        wanted = share_traffic(traffic, self.name, self.recipe.endpoint.canary)
        if wanted == traffic or self.endpoint.rolled_back(found) == self.name:
            return False
        self._smoke(str(found.scoring_uri))
        self.endpoint.shift(wanted)
        return True

    def _find(self) -> ManagedOnlineDeployment | None:
        return self.endpoint.deployment(self.name)

    def _state(self) -> str:
        found = self._find()
        return str(found.provisioning_state) if found else "missing"

    def _traffic(self) -> dict[str, int]:
        found = self.endpoint.find()
        return dict(found.traffic) if found else {}

    def _wanted(self, environment: str) -> ManagedOnlineDeployment:
        wanted = wanted_deployment(self.recipe, self.name, self.endpoint.name, self.version)
        if self.container:
            wanted.environment = environment
            wanted.environment_variables = self.container.variables
        return wanted

    def _refuse_other_sku(self, found: ManagedOnlineDeployment | None) -> None:
        wanted = self.recipe.endpoint.sku
        if found and str(found.instance_type).lower() != wanted.lower():
            raise FixableError(
                f"{self._what} runs on {found.instance_type}, the recipe says {wanted}",
                "--set endpoint.deployment=ANOTHER makes one beside it: the SKU cannot be changed",
            )

    def _put(self, wanted: ManagedOnlineDeployment) -> None:
        from azure.core.exceptions import HttpResponseError  # noqa: PLC0415 - slow

        def begin() -> Any:
            if under_way(self._state()):
                return None
            return self.endpoint.ml.online_deployments.begin_create_or_update(wanted)

        with azure_errors(self._what), nothing_printed():
            try:
                poller = when_free(self._what, begin)
            except HttpResponseError as error:
                self._refused(error)
            self._finish(poller)

    def _finish(self, poller: Any) -> None:
        from azure.core.exceptions import HttpResponseError  # noqa: PLC0415 - slow

        given = self.recipe.endpoint
        patience = _IMAGE + _longest(given.liveness) + _longest(given.readiness)
        what = f"Deployment {self.name} on {given.sku}"
        with azure_errors(self._what), nothing_printed():
            try:
                state = follow(what, poller, self._state, patience)
            except HttpResponseError as error:
                if error.status_code in (401, 403, 429) or self._state() != "Failed":
                    raise
                self._failed(error)
        if state != "Succeeded":
            self._failed(None)

    def _delete(self) -> None:
        what = f"Deleting failed deployment {self.name}"

        def begin() -> Any:
            return self.endpoint.ml.online_deployments.begin_delete(self.name, self.endpoint.name)

        with azure_errors(f"deleting {self._what}"):
            follow(what, when_free(what, begin), lambda: "gone", _IMAGE)

    def _refused(self, error: Any) -> NoReturn:
        """Azure took no deployment at all: quota, a role, a name."""
        code, message = code_and_message(error)
        if "quota" in f"{code} {message}".lower():
            raise self._out_of_quota(message) from None
        cause = likely_cause([message]) if error.status_code in (400, 403) else None
        if cause is None:
            raise error
        raise FixableError(f"{self._what}: {cause.cause} ({message})", cause.fix) from None

    def _out_of_quota(self, message: str) -> FixableError:
        """What other deployments hold stays theirs: they answer until this one does."""
        from setup.azure.quota import demands, endpoint_cores, region_sizes  # noqa: PLC0415

        sizes = region_sizes(self._session)
        listed = demands(self._session, sizes)
        needs = next(one for one in listed if one.purpose == "the endpoint")
        found, limit = self._find(), needs.used + needs.needed
        if found and found.provisioning_state == "Succeeded":  # it grows
            cores = sizes[needs.sku.lower()].cores
            limit -= endpoint_cores(needs.sku, cores, int(found.instance_count or 1))
        return FixableError(
            f"{self._what} was refused for want of quota: it needs {needs.needed} cores of "
            f"{needs.family}, the endpoint's reserve included, and {needs.used} of {needs.limit} "
            f"are in use ({message})",
            f"python -m setup quota --request {limit} --recipe {self.recipe.name}, or another "
            "endpoint.sku or azure.location",
        )

    def _failed(self, error: Any) -> NoReturn:
        code, message = code_and_message(error) if error else ("", "")
        if "quota" in f"{code} {message}".lower():
            raise self._out_of_quota(message) from None
        log = fetch_log(self.endpoint, self.name)
        cause = likely_cause([*log.lines, message])
        if cause is None:
            cause = Cause("Azure refused it", explain(error).fix) if code else _UNKNOWN
        said = f" ({': '.join(filter(None, (code, message)))})" if message else ""
        fix = f"{cause.fix}; the same command again replaces it"
        if not self._traffic().get(self.name):
            fix += f". It costs until {self.endpoint.az('delete', self.name)}"
        raise FixableError(
            f"{self._what} failed: {cause.cause}{said}; its log: {log.path}", fix
        ) from None

    def _smoke(self, url: str) -> None:
        try:
            ask_deployment(self.recipe, url, self.endpoint.key(), self.name)
        except NoAnswerError as error:
            log = fetch_log(self.endpoint, self.name)
            cause = likely_cause(log.lines)
            told = f", probably because {cause.cause}" if cause else ""
            raise FixableError(
                f"version {self.version.version} of {self.version.name} ({self._what}) "
                f"{error}{told}; the traffic is as it was; its log: {log.path}",
                f"{self.endpoint.az('get-logs', self.name)} shows more. It costs until "
                f"{self.endpoint.az('delete', self.name)}",
            ) from None


def share_traffic(traffic: dict[str, int], new: str, canary: int) -> dict[str, int]:
    """The table in which ``new`` has at least ``canary`` per cent, and one other has the rest.

    What has more already, keeps it.
    """
    others = {name: share for name, share in traffic.items() if name != new and share}
    if not others or canary == 100:
        return {new: 100}
    if traffic.get(new, 0) >= canary:
        return dict(traffic)
    return {max(others, key=lambda name: others[name]): 100 - canary, new: canary}


def _longest(probe: Probe) -> float:
    return probe.initial_delay + probe.period * probe.failure_threshold
