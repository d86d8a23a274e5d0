"""The local endpoint from outside: is it running, start it detached, manage it, stop it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from setup.common.console import progress_bar, say
from setup.common.errors import FixableError
from setup.common.paths import REPOSITORY, endpoint_folder, read_json
from setup.recipe.local import Recipe
from setup.serve.access.keys import Keys, KeyType
from setup.serve.settings import KEYS, LOG, PID

_CALL_TIMEOUT = 10.0
_START_TIMEOUT = 30.0


@dataclass(frozen=True)
class LocalEndpoint:
    """The recipe's endpoint on this machine; it is looked at anew for every question.

    It is also the session of target local: what all steps of a command share.
    """

    recipe: Recipe

    @property
    def name(self) -> str:
        """Its name."""
        return self.recipe.endpoint.name

    @property
    def patience(self) -> float:
        """The seconds that requests which it has accepted may take."""
        return self.recipe.endpoint.request_timeout + 10

    @property
    def folder(self) -> Path:
        """The folder of its settings, keys, pid file and logs."""
        return endpoint_folder(self.name)

    @property
    def scoring_key(self) -> str:
        """The key clients send."""
        return Keys.ensure(self.folder).scoring

    def process(self) -> psutil.Process | None:
        """Its running process; None for a stale pid file, whoever has that number now."""
        recorded = read_json(self.folder / PID)
        if recorded is None:
            return None
        try:
            process = psutil.Process(int(recorded["pid"]))
            same = abs(process.create_time() - float(recorded["started"])) < 1.0
            zombie = process.status() == psutil.STATUS_ZOMBIE
            return process if same and not zombie else None
        except (psutil.Error, KeyError, ValueError):
            return None

    @property
    def url(self) -> str:
        """Its address, without a route; FixableError where it does not run."""
        recorded = read_json(self.folder / PID)
        if recorded is None or self.process() is None:
            raise FixableError(
                f"endpoint {self.name} is not running", self.recipe.command("deploy")
            )
        host = recorded["host"]
        return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{recorded['port']}"  # noqa: S104

    def manage(
        self, method: str, route: str = "", body: Any = None, timeout: float = _CALL_TIMEOUT
    ) -> Any:
        """Call a management route; returns the JSON reply, None where it has none.

        Raises:
            FixableError: It does not run, does not answer, or refuses (with its reason).
        """
        headers = {"Authorization": f"Bearer {Keys.ensure(self.folder).management}"}
        return self._request(method, f"/manage{route}", body, headers, timeout)

    def status(self) -> dict[str, Any]:
        """Ask it what runs; ``running`` is False when there is nothing to ask."""
        process = self.process()
        if process is None:
            return {"name": self.name, "running": False, "healthy": False}
        facts = {
            "running": True,
            "healthy": self._answers("/health"),
            "pid": process.pid,
            "url": self.url,
            "log": str(self.folder / LOG),
            **self.manage("GET"),
        }
        if facts.get("collect", "none") != "none":
            facts["kept"] = self._kept()
        return facts

    def _kept(self) -> dict[str, Any]:
        """The room in the feedback file, as the endpoint sees it; empty where it does not tell."""
        headers = {"Authorization": f"Bearer {self.scoring_key}"}
        try:
            return dict(self._request("GET", "/feedback", None, headers, _CALL_TIMEOUT))
        except FixableError:  # such as one with too many requests: its state is told all the same
            return {}

    def log_lines(self, count: int, follow: bool, deployment: str = "") -> Iterator[str]:
        """The last ``count`` lines of its log, or of a deployment's engine, then new ones."""
        path = self.folder / (f"engine-{deployment}.log" if deployment else LOG)
        if not path.is_file():
            fix = f"{self.recipe.command('status')}, and name what it lists"
            raise FixableError(f"no log at {path}", fix)
        if path.stat().st_size == 0:
            say(f"{path} is empty: nothing has gone wrong")
        with path.open(encoding="utf-8", errors="replace") as file:
            lines = deque(file, maxlen=count)
            position = file.tell()
        yield from lines
        while follow:
            time.sleep(0.2)
            # Opened anew each time: a rotated log is another file of the same name.
            with path.open(encoding="utf-8", errors="replace") as file:
                file.seek(position if position <= path.stat().st_size else 0)
                yield from file
                position = file.tell()

    def set_traffic(self, shares: Mapping[str, int]) -> None:
        """Share the requests so, in per cent."""
        self.manage("PUT", "/traffic", dict(shares))

    def set_mirror(self, shares: Mapping[str, int]) -> None:
        """Refuse: here there is nothing that sends copies."""
        fix = f"{self.recipe.command('traffic')} without --mirror"
        raise FixableError(f"target local sends no copies of requests ({', '.join(shares)})", fix)

    def delete(self, deployment: str) -> None:
        """Remove a deployment after the requests it has accepted."""
        self.manage("DELETE", f"/deployments/{deployment}", timeout=self.patience)

    def score(
        self, question: str, deployment: str, parameters: dict[str, Any], timeout: float
    ) -> dict[str, Any]:
        """Ask one deployment over ``/score``, as any client does; returns the JSON reply.

        Raises:
            FixableError: No answer within ``timeout`` seconds, or a refusal (with its reason).
        """
        asked = [{"role": "user", "content": question}]
        body = {"input_data": {"input_string": asked, "parameters": parameters}}
        headers = {
            "Authorization": f"Bearer {self.scoring_key}",
            "azureml-model-deployment": deployment,
        }
        return dict(self._request("POST", "/score", body, headers, timeout))

    def renew_key(self, kind: KeyType | None) -> None:
        """Make a scoring key anew, see ``Keys.renewed``; at once where it runs.

        Raises:
            FixableError: It runs and does not answer, or was never deployed.
        """
        if self.process() is not None:
            self.manage("POST", "/keys", {"key": kind} if kind else {})
        elif (self.folder / KEYS).is_file():
            Keys.ensure(self.folder).renewed(kind).save(self.folder)
        else:
            fix = self.recipe.command("deploy")
            raise FixableError(f"endpoint {self.name} has no keys yet: it was never deployed", fix)

    def start(self) -> None:
        """Start it detached and return when it answers; its deployments may still be loading.

        Raises:
            FixableError: It ended instead, with the last line it printed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        output = self.folder / "startup.log"
        child = self._spawn(output)
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._answers("/"):
            if child.poll() is not None or time.monotonic() > deadline:
                child.terminate()
                lines = output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
                reason = lines[-1] if lines else f"no reason given in {self.folder}"
                raise FixableError(
                    f"endpoint {self.name} did not start: {reason}", self.recipe.command("doctor")
                )
            time.sleep(0.05)

    def stop(self, timeout: float) -> bool:
        """Let accepted requests finish, then end it; False when it was not running."""
        process = self.process()
        if process is None:
            return False
        try:
            self.manage("POST", "/drain")
        except FixableError:
            process.terminate()
        deadline = time.monotonic() + timeout
        with progress_bar(f"Stopping endpoint {self.name}"):
            # Not process.wait: in a container nobody may collect what has ended long ago.
            while self.process() and time.monotonic() < deadline:
                time.sleep(0.05)
            if self.process():
                process.kill()
        return True

    def _request(
        self, method: str, route: str, body: Any, headers: dict[str, str], timeout: float
    ) -> Any:
        try:
            reply = _http().request(
                method, f"{self.url}{route}", json=body, headers=headers, timeout=timeout
            )
        except requests.RequestException as error:
            raise FixableError(
                f"endpoint {self.name} does not answer ({type(error).__name__})",
                self.recipe.command("logs"),
            ) from None
        if reply.status_code >= 400:
            raise FixableError(_reason(reply), self.recipe.command("logs"))
        return reply.json() if reply.content else None

    def _answers(self, route: str) -> bool:
        try:
            return _http().get(f"{self.url}{route}", timeout=_CALL_TIMEOUT).status_code == 200
        except (requests.RequestException, FixableError):
            return False

    def _spawn(self, output: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "setup.serve", str(self.folder)]
        options: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            detached = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS
            options = {"creationflags": detached}
        with output.open("wb") as file:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=REPOSITORY,
                **options,
            )


def _http() -> requests.Session:
    """Straight to the endpoint: no proxy may see its keys, no .netrc replace them."""
    session = requests.Session()
    session.trust_env = False
    return session


def port_holder(port: int) -> str | None:
    """Name the process that listens on ``port`` here, as ``name (pid N)``; None when it is free."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return None
    for connection in connections:
        address = connection.laddr
        if connection.status == psutil.CONN_LISTEN and address and address.port == port:
            return _who(connection.pid)
    return None


def refuse_held_port(port: int) -> None:
    """Raise FixableError, naming who holds it, unless ``port`` is free."""
    holder = port_holder(port)
    if holder:
        raise FixableError(
            f"port {port} is held by {holder}", f"stop it, or --set endpoint.port={port + 1}"
        )


def _who(pid: int | None) -> str:
    if pid is None:
        return "another user's process"
    try:
        return f"{psutil.Process(pid).name()} (pid {pid})"
    except psutil.Error:
        return f"pid {pid}"


def _reason(reply: requests.Response) -> str:
    try:
        return str(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the endpoint answered {reply.status_code}"
