"""The deployments of a running endpoint: added, replaced, removed, and given their traffic."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from pathlib import Path

from setup.local.endpoint.admission import Admission
from setup.local.endpoint.engine import Engine
from setup.local.endpoint.errors import ApiError, EngineError
from setup.local.endpoint.settings import DeploymentSettings, EndpointSettings, save_settings

log = logging.getLogger("endpoint")

_RESTART_PAUSES = (0.5, 2.0, 5.0, 15.0)
_GRACE = 1.0
_STEADY = 60.0  # seconds an engine must live for its next crash to count as the first


class Deployment:
    """A named model behind the endpoint, with its engine and its queue."""

    def __init__(self, name: str, settings: DeploymentSettings, engine: Engine) -> None:
        self.name = name
        self.settings = settings
        self.engine = engine
        self.admission = Admission(settings.slots, settings.queue)
        self.watch: asyncio.Task[None] | None = None

    @property
    def healthy(self) -> bool:
        """Whether requests can be answered now."""
        return self.engine.alive

    async def retire(self, grace: float = 0.0) -> None:
        """Let accepted requests finish, then stop the engine.

        ``grace`` seconds more are for those that hold no slot, such as counting tokens.
        """
        if self.watch:
            self.watch.cancel()
        await self.admission.idle()
        await asyncio.sleep(grace)
        await self.engine.stop()


class Deployments:
    """The table the endpoint routes by; every change is saved before it is acknowledged."""

    def __init__(self, settings: EndpointSettings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._running: dict[str, Deployment] = {}
        self._change = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> dict[str, Deployment]:
        """The deployments by name."""
        return self._running

    @property
    def traffic(self) -> dict[str, int]:
        """Percent of the requests that name no deployment, by deployment."""
        return self._settings.traffic

    async def start_all(self) -> None:
        """Start every deployment of the settings; one that fails does not stop the others."""
        for name, settings in self._settings.deployments.items():
            try:
                self._running[name] = await self._launch(name, settings)
            except EngineError as error:
                log.error("deployment failed", extra={"deployment": name, "reason": str(error)})

    async def put(self, name: str, settings: DeploymentSettings) -> bool:
        """Add or replace a deployment; the old one answers until the new one is healthy.

        Returns False when exactly this was already running.

        Raises:
            ApiError: 424 when the new one does not start; the old one stays.
        """
        async with self._change:
            old = self._running.get(name)
            if old and old.healthy and old.settings == settings:
                return False
            try:
                self._running[name] = await self._launch(name, settings)
            except EngineError as error:
                raise ApiError(424, str(error)) from None
            self._settings.deployments[name] = settings
            if not any(self._settings.traffic.values()):
                self._settings.traffic = {name: 100}
            save_settings(self._folder, self._settings)
            if old:
                self._retire(old)
            return True

    async def delete(self, name: str) -> None:
        """Remove a deployment after its accepted requests; 404 unknown, 409 takes traffic."""
        async with self._change:
            if name not in self._settings.deployments:
                raise ApiError(404, f"no deployment {name!r}")
            if self._settings.traffic.get(name):
                raise ApiError(409, f"deployment {name!r} takes traffic: shift it away first")
            del self._settings.deployments[name]
            self._settings.traffic.pop(name, None)
            save_settings(self._folder, self._settings)
            deployment = self._running.pop(name, None)
        if deployment:
            await deployment.retire(_GRACE)

    async def shift(self, traffic: dict[str, int]) -> None:
        """Set the traffic table; 422 unless it names deployments and sums to 0 or 100."""
        async with self._change:
            unknown = sorted(set(traffic) - set(self._running))
            if unknown:
                raise ApiError(422, f"traffic names no running deployment: {', '.join(unknown)}")
            if min(traffic.values(), default=0) < 0 or sum(traffic.values()) not in (0, 100):
                raise ApiError(422, f"traffic must sum to 0 or 100, got {sum(traffic.values())}")
            self._settings.traffic = traffic
            save_settings(self._folder, self._settings)

    def pick(self, name: str | None) -> Deployment:
        """The deployment a request goes to: the one it names, else by the traffic table.

        Raises:
            ApiError: 404 for an unknown name or no traffic, 503 when its engine is down.
        """
        if name is None:
            taking = {key: share for key, share in self.traffic.items() if share}
            if not taking:
                raise ApiError(404, "no deployment takes traffic")
            # Routing, not a secret: ordinary randomness is right.
            name = random.choices(list(taking), list(taking.values()))[0]  # noqa: S311
        deployment = self._running.get(name)
        if deployment and deployment.healthy:
            return deployment
        if name in self._settings.deployments:
            raise ApiError(503, f"deployment {name!r} is down", retry_after=2)
        raise ApiError(404, f"no deployment {name!r}")

    async def stop_all(self) -> None:
        """Stop every engine; the settings stay as they are."""
        await asyncio.gather(*(deployment.retire() for deployment in self._running.values()))
        await asyncio.gather(*self._retiring)

    async def _launch(self, name: str, settings: DeploymentSettings) -> Deployment:
        engine = await Engine.start(name, settings, self._folder)
        deployment = Deployment(name, settings, engine)
        deployment.watch = asyncio.create_task(self._keep_alive(deployment))
        return deployment

    def _retire(self, deployment: Deployment) -> None:
        task = asyncio.create_task(deployment.retire(_GRACE))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _keep_alive(self, deployment: Deployment) -> None:
        """Start the engine again whenever it dies, ever more patiently."""
        failures, name = 0, deployment.name
        while True:
            started = time.monotonic()
            reason = await deployment.engine.wait()
            log.error("engine died", extra={"deployment": name, "reason": reason})
            failures = 0 if time.monotonic() - started > _STEADY else failures
            await asyncio.sleep(_RESTART_PAUSES[min(failures, len(_RESTART_PAUSES) - 1)])
            failures += 1
            try:
                deployment.engine = await Engine.start(name, deployment.settings, self._folder)
            except EngineError as error:
                log.error("restart failed", extra={"deployment": name, "reason": str(error)})
