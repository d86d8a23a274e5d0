"""The deployed endpoint from outside: what is there, what it logs, who takes the requests.

As ``setup/local/control.py`` does it for target local, with the same names and the same shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from time import sleep
from typing import Any

from setup.azure.client import explain
from setup.azure.client.session import AzureSession
from setup.azure.deploy import smoke, why_failed
from setup.azure.deploy.autoscale import Autoscale
from setup.azure.deploy.online_endpoint import ManagedEndpoint
from setup.azure.deploy.traffic import Slots
from setup.common.console import progress_bar, say
from setup.common.errors import FixableError

FOLLOW_PAUSE = 5.0  # seconds between two looks at a log; Azure has no stream of it
_FOLLOWED = 500  # lines that one look asks for
_MOST_COPIES = 50  # per cent: https://learn.microsoft.com/azure/machine-learning/how-to-safely-rollout-online-endpoints


class DeployedEndpoint:
    """The recipe's endpoint in Azure, looked at anew for every question."""

    def __init__(self, session: AzureSession) -> None:
        self._session, self._recipe = session, session.recipe
        self._endpoint = ManagedEndpoint(session)
        self.name = self._endpoint.name

    def status(self) -> dict[str, Any]:
        """Say what there is; ``running`` is False where there is no endpoint."""
        with progress_bar(f"Reading endpoint {self.name}"):
            endpoint = self._endpoint.find()
            if endpoint is None:
                return {"name": self.name, "running": False, "healthy": False}
            slots = self._endpoint.slots()
            rows = {
                name: self._row(slots, name, deployment)
                for name, deployment in sorted(self._endpoint.deployments().items())
            }
        healthy = bool(slots.live) and all(rows[name]["healthy"] for name in slots.live)
        return {
            "name": self.name,
            "running": True,
            "healthy": healthy and endpoint.provisioning_state == "Succeeded",
            "url": str(endpoint.scoring_uri),
            "state": endpoint.provisioning_state,
            "deployments": rows,
        }

    def _row(self, slots: Slots, name: str, deployment: Any) -> dict[str, Any]:
        settings, count = deployment.request_settings, int(deployment.instance_count or 1)
        at_once = int(settings.max_concurrent_requests_per_instance or 1) if settings else 1
        limits = Autoscale(self._session, name).limits()
        return {
            "traffic": slots.live.get(name, 0),
            "mirror": slots.mirrors.get(name, 0),
            "healthy": slots.is_healthy(name),
            "state": str(deployment.provisioning_state),
            "failure": "",
            "admitted": None,  # Azure tells nobody how many requests are under way
            "waiting": None,
            "slots": at_once * count,
            "model_path": _model(str(deployment.model or "")),
            "sku": str(deployment.instance_type),
            "instances": count,
            "scale": {"min": limits[0], "max": limits[1]} if limits else None,
        }

    def log_lines(self, count: int, follow: bool, deployment: str = "") -> Iterator[str]:
        """The last ``count`` lines that a deployment's containers printed, then new ones.

        It is the deployment with most traffic, where none is named. Nothing that looks like a key
        or a token is in a line.
        """
        name = deployment or self._busiest()
        self._need(name)
        lines = self._read(name, max(count, _FOLLOWED) if follow else count)
        if not lines:
            say(f"deployment {name} has printed nothing yet")
        yield from lines[-count:] if count else ()
        while follow:
            sleep(FOLLOW_PAUSE)
            later = self._read(name, _FOLLOWED)
            new = _news(lines, later)
            if lines and len(new) == len(later) == _FOLLOWED:
                say(f"deployment {name} prints faster than this reads: lines are missing here")
            yield from new
            lines = later or lines

    def _read(self, name: str, lines: int) -> list[str]:
        for container in why_failed.CONTAINERS:
            text = why_failed.read_log(self._endpoint, name, container, lines or 1)
            if text.strip():
                return [f"{explain.one_line(line)}\n" for line in text.splitlines() if line.strip()]
        return []

    def _busiest(self) -> str:
        live = self._endpoint.slots().live
        return max(self._endpoint.deployments(), key=lambda name: live.get(name, 0), default="")

    def _need(self, *names: str) -> None:
        """Refuse names that no deployment has."""
        self._endpoint.need()
        there = self._endpoint.deployments()
        if missing := [name for name in names if name not in there]:
            what = f"endpoint {self.name} has no deployment {', '.join(missing)}".rstrip()
            fix = f"name one that is there: {', '.join(sorted(there))}"
            raise FixableError(what, fix if there else self._recipe.command("deploy"))

    def set_traffic(self, shares: Mapping[str, int]) -> None:
        """Share the requests so, in per cent; who gets its first ones answers before.

        Raises:
            FixableError: They are not 100 in all (or 0), a deployment is not there, is not healthy
                or does not answer; the traffic is as it was.
        """
        self._need(*shares)
        if sum(shares.values()) not in (0, 100):
            what = f"the shares are {sum(shares.values())} % in all"
            raise FixableError(what, "shares of 100 % in all, or 0 for each to stop")
        wanted = {name: share for name, share in shares.items() if share}
        slots = self._endpoint.slots()
        for name in wanted:
            if name not in slots.live:
                self._ask(slots, name)
        self._endpoint.shift(wanted)

    def _ask(self, slots: Slots, name: str) -> None:
        if not slots.is_healthy(name):
            what = f"deployment {name} of endpoint {self.name} is not healthy"
            fix = f"{self._recipe.command('logs', '--deployment', name)}; then deploy it again"
            raise FixableError(what, fix)
        url = str(self._endpoint.need().scoring_uri)
        try:
            smoke.ask_deployment(self._recipe, url, self._endpoint.key(), name)
        except smoke.NoAnswerError as error:
            what = f"deployment {name} {error}; the traffic is as it was"
            fix = self._recipe.command("logs", "--deployment", name)
            raise FixableError(what, fix) from None

    def set_mirror(self, shares: Mapping[str, int]) -> None:
        """Send copies of so many per cent of the requests to a deployment that takes none itself.

        Nobody sees its answers to them: they show in its log, its metrics and its price.
        """
        self._need(*shares)
        copied = {name: share for name, share in shares.items() if share}
        live = self._endpoint.slots().live
        if both := sorted(copied.keys() & live.keys()):
            what = f"deployment {both[0]} takes {live[both[0]]} % of the requests, and so no copies"
            raise FixableError(what, f"{self._recipe.command('status')}, and name one with 0 %")
        if len(copied) > 1 or sum(copied.values()) > _MOST_COPIES:
            what = f"Azure sends copies to one deployment, of at most {_MOST_COPIES} %"
            raise FixableError(what, "--mirror with one DEPLOYMENT=PERCENT")
        self._endpoint.mirror(copied)

    def delete(self, deployment: str) -> None:
        """Delete a deployment that is sent neither requests nor copies of them.

        Raises:
            FixableError: It is not there, or takes traffic.
        """
        self._need(deployment)
        slots = self._endpoint.slots()
        if not slots.is_idle(deployment):
            share, copies = slots.live.get(deployment, 0), slots.mirrors.get(deployment, 0)
            told = f"{share} % of the requests" if share else f"copies of {copies} %"
            fix = f"{self._recipe.command('traffic')} with another one first"
            if copies:
                fix = self._recipe.command("traffic", "--mirror", f"{deployment}=0")
            raise FixableError(f"deployment {deployment} takes {told}", fix)
        self._endpoint.delete(deployment)


def _model(id_: str) -> str:
    """Return NAME:VERSION of a registered model's id, the id of any other."""
    parts = id_.split("/")
    return f"{parts[-3]}:{parts[-1]}" if len(parts) > 4 and parts[-2] == "versions" else id_


def _news(before: list[str], now: list[str]) -> list[str]:
    """Return the lines of ``now`` that come after those of ``before``: both are ends of one log."""
    for known in range(min(len(before), len(now)), 0, -1):
        if before[-known:] == now[:known]:
            return now[known:]
    return now
