"""The running endpoint: its deployments, added, replaced, removed, and given their traffic."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from pathlib import Path

from aiohttp import web

from setup.serve import settings as stored
from setup.serve.access.admission import Admission
from setup.serve.access.keys import Allowance, Keys, KeyType
from setup.serve.contract.error_reply import ApiError, EngineError
from setup.serve.engine import Engine

log = logging.getLogger("endpoint")

_RESTART_PAUSES = (0.5, 2.0, 5.0, 15.0)
_LOOK_EVERY = 10.0  # seconds between two looks at whether an engine still goes on
_STILL_AT_LEAST = 30.0  # seconds: between two steps it may have a long prompt to read
_STEADY = 60.0  # seconds an engine must live for its next crash to count as the first


class Deployment:
    """A named model behind the endpoint, with its queue and, unless it is down, its engine.

    ``created`` is when it was deployed here, in Unix time; a restart of the endpoint is a new one.
    """

    def __init__(self, name: str, settings: stored.DeploymentSettings, folder: Path) -> None:
        self.name, self.settings, self._folder = name, settings, folder
        self.admission = Admission(settings.slots, settings.queue)
        self.failure, self.created = "", int(time.time())
        self._engine: Engine | None = None
        self._watch: list[asyncio.Task[None]] = []

    @property
    def engine(self) -> Engine:
        """The running engine; EngineError where there is none at present."""
        if self._engine is None:
            raise EngineError(503, f"deployment {self.name!r} is down")
        return self._engine

    @property
    def healthy(self) -> bool:
        """Tell whether requests can be answered now."""
        return self._engine is not None and self._engine.alive

    async def start(self) -> None:
        """Load the model; EngineError where it does not load, and ``failure`` keeps the reason."""
        try:
            self._engine = await Engine.start(self.name, self.settings, self._folder)
            self.failure = ""
        except (OSError, EngineError) as error:
            reason = f"no engine process could be started: {error}"
            self.failure = str(error) if isinstance(error, EngineError) else reason
            raise EngineError(424, self.failure) from None

    def keep_alive(self) -> None:
        """From now on, start the engine again whenever it is down, ever more patiently."""
        watches = (self._restart_for_ever(), self._kill_what_stands_still())
        self._watch = [asyncio.create_task(watch) for watch in watches]

    async def retire(self) -> None:
        """Let accepted requests finish, then stop the engine."""
        for watch in self._watch:
            watch.cancel()
        await self.admission.idle()
        if self._engine:
            await self._engine.stop()

    async def _restart_for_ever(self) -> None:
        failures = 0
        while True:
            if self._engine:
                started = time.monotonic()
                self.failure = await self._engine.wait()
                self._log("engine died", self.failure)
                await self._engine.stop()
                failures = 0 if time.monotonic() - started > _STEADY else failures
                self._engine = None
            await asyncio.sleep(_RESTART_PAUSES[min(failures, len(_RESTART_PAUSES) - 1)])
            failures += 1
            try:
                await self.start()
            except EngineError as error:
                self._log("restart failed", str(error))

    async def _kill_what_stands_still(self) -> None:
        """End an engine that stands still for twice as long as an answer may take."""
        limit = max(_STILL_AT_LEAST, 2 * self.settings.request_timeout)
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            engine = self._engine
            if engine and engine.alive and await engine.stands_still(limit):
                self._log("engine stands still", f"no sign of life within {limit:g} s")
                engine.kill()

    def _log(self, event: str, reason: str) -> None:
        log.error(event, extra={"deployment": self.name, "reason": reason})


class Endpoint:
    """The table that requests are routed by; every change is saved before it is acknowledged.

    ``table`` holds the deployments by name, those that are down too; ``stop`` is set when the
    endpoint shall answer what it has accepted, then end; ``created`` is when it began (Unix time).
    """

    def __init__(self, settings: stored.EndpointSettings, folder: Path) -> None:
        self.settings, self._folder = settings, folder
        self.keys = Keys.ensure(folder)
        self.allowances: dict[str, Allowance] = {}
        self._allow_keys()
        self.stop, self.created = asyncio.Event(), int(time.time())
        self._change = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self.table = {
            name: Deployment(name, options, folder)
            for name, options in settings.deployments.items()
        }

    def renew_key(self, kind: KeyType | None) -> None:
        """Make a scoring key anew, see ``Keys.renewed``; the other one stays valid."""
        new = self.keys.renewed(kind)
        new.save(self._folder)
        self.keys = new
        self._allow_keys()

    def _allow_keys(self) -> None:
        """Give each scoring key its allowance: the one it has, whichever kind it is now."""
        self.allowances = {
            key: self.allowances.get(key) or Allowance(self.settings.requests_per_minute)
            for key in (self.keys.scoring, self.keys.secondary)
        }

    @property
    def longest_request(self) -> float:
        """The most seconds that any deployment takes for an answer."""
        limits = [row.settings.request_timeout for row in self.table.values()]
        return max(limits, default=self.settings.read_timeout)

    async def start_all(self) -> bool:
        """Start every deployment of the settings; one that fails is tried again later.

        Returns False where one failed.
        """
        for name, deployment in list(self.table.items()):
            async with self._change:
                if self.table.get(name) is not deployment or deployment.healthy:
                    continue
                try:
                    await deployment.start()
                except EngineError as error:
                    extra = {"deployment": name, "reason": str(error)}
                    log.error("deployment failed", extra=extra)
                deployment.keep_alive()
        log.info("ready")
        return all(deployment.healthy for deployment in self.table.values())

    async def put(self, name: str, settings: stored.DeploymentSettings) -> bool:
        """Add or replace a deployment; the old one answers until the new one is healthy.

        Returns False when exactly this was already running. ApiError 424 when the new one does not
        start; the old one stays.
        """
        async with self._change:
            old = self.table.get(name)
            if old and old.healthy and old.settings == settings:
                return False
            new = Deployment(name, settings, self._folder)
            try:
                await new.start()
            except EngineError as error:
                raise ApiError(424, str(error)) from None
            new.keep_alive()
            self.table[name] = new
            self.settings.deployments[name] = settings
            if not any(self.settings.traffic.values()):
                self.settings.traffic = {name: 100}
            self.settings.save(self._folder)
            if old:
                self._retire(old)
            return True

    async def delete(self, name: str) -> None:
        """Remove a deployment after its accepted requests; 404 unknown, 409 takes traffic."""
        async with self._change:
            if name not in self.settings.deployments:
                raise ApiError(404, f"no deployment {name!r}; there are: {', '.join(self.table)}")
            if self.settings.traffic.get(name):
                raise ApiError(409, f"deployment {name!r} takes traffic: shift it away first")
            del self.settings.deployments[name]
            self.settings.traffic.pop(name, None)
            self.settings.save(self._folder)
            # Shielded: a client that does not wait must not keep the engine from being stopped.
            retiring = self._retire(self.table.pop(name))
        await asyncio.shield(retiring)

    async def shift(self, traffic: dict[str, int]) -> None:
        """Set the traffic table; 400 unless it names deployments and sums to 0 or 100."""
        async with self._change:
            unknown = sorted(set(traffic) - set(self.table))
            if unknown:
                raise ApiError(400, f"traffic names no deployment: {', '.join(unknown)}")
            if min(traffic.values(), default=0) < 0 or sum(traffic.values()) not in (0, 100):
                raise ApiError(400, f"traffic must sum to 0 or 100, got {sum(traffic.values())}")
            self.settings.traffic = traffic
            self.settings.save(self._folder)

    def pick(self, name: str | None) -> Deployment:
        """The deployment a request goes to: the one it names, else by the traffic table.

        ApiError 404 for an unknown name or no traffic, 503 when its engine is down.
        """
        if name is None:
            taking = {key: share for key, share in self.settings.traffic.items() if share}
            if not taking:
                raise ApiError(404, "no deployment takes traffic")
            # Routing, not a secret: ordinary randomness is right.
            name = random.choices(list(taking), list(taking.values()))[0]  # noqa: S311
        deployment = self.table.get(name)
        if deployment is None:
            message = f"no deployment {name!r}; there are: {', '.join(self.table)}"
            raise ApiError(404, message, code="deployment_not_found")
        if not deployment.healthy:
            raise ApiError(503, f"deployment {name!r} is down", retry_after=2)
        return deployment

    async def stop_all(self) -> None:
        """Stop every engine; the settings stay as they are."""
        await asyncio.gather(*(deployment.retire() for deployment in self.table.values()))
        await asyncio.gather(*self._retiring)

    def _retire(self, deployment: Deployment) -> asyncio.Task[None]:
        task = asyncio.create_task(deployment.retire())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
        return task


ENDPOINT: web.AppKey[Endpoint] = web.AppKey("endpoint", Endpoint)
