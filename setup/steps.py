"""The path as a list of steps, and what can be asked of the endpoint in between."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from setup import console
from setup.data import DataPlan, describe_data, prepare_data
from setup.errors import FixableError
from setup.keyrings import keyring_name
from setup.local.connect import connect, connection_values, deployments_of, plan_connect
from setup.local.control import LocalEndpoint
from setup.local.deploy import deploy, plan_deploy
from setup.local.rollout import rolled_out
from setup.recipe import Recipe

_REJECTS_SHOWN = 5


@dataclass(frozen=True)
class Result:
    """What a step did: ``changed`` is False when its work was done before."""

    step: str
    changed: bool
    detail: str
    next: str

    def line(self) -> str:
        """For people."""
        return f"{self.step}: {self.detail}" + ("" if self.changed else " (unchanged)")

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"ok": True, **asdict(self)}


@dataclass(frozen=True)
class Step:
    """A verb of the path: ``plan`` says what ``run`` would do."""

    name: str
    help: str
    plan: Callable[[Recipe], list[str]]
    run: Callable[[Recipe], Result]


def data_plan(recipe: Recipe) -> DataPlan:
    """The data part of ``recipe`` as the plan that carries it out."""
    return DataPlan(**recipe.data.model_dump())


def _plan_data(recipe: Recipe) -> list[str]:
    return describe_data(data_plan(recipe))


def _data(recipe: Recipe) -> Result:
    prepared = prepare_data(data_plan(recipe))
    if prepared.rejects:
        _show_rejects(prepared.rejects)
    rejects = f"; rejected rows are in {prepared.rejects}" if prepared.rejects else ""
    detail = f"{prepared.train}, {prepared.test} ({prepared.counts}){rejects}"
    return Result("data", not prepared.already_there, detail, "python -m setup deploy")


def _show_rejects(path: Path) -> None:
    with path.open(encoding="utf-8") as file:
        for row in map(json.loads, islice(file, _REJECTS_SHOWN)):
            line = f"rejected {row['file']}:{row['line']}: {row['reason']}"
            console.err.print(line, markup=False)


def _deploy(recipe: Recipe) -> Result:
    changed = deploy(recipe)
    endpoint = LocalEndpoint(recipe.endpoint.name)
    rows = deployments_of(recipe, endpoint)
    name, tuned = recipe.endpoint.deployment, recipe.endpoint.tuned
    detail = f"deployment {name} of endpoint {endpoint.name} is healthy at {endpoint.url}"
    detail += f" and takes {rows[name]['traffic']} % of the traffic"
    number = rolled_out(endpoint)
    if number and tuned in rows:
        detail += f"; {tuned} is version {number} and takes {rows[tuned]['traffic']} %"
    return Result("deploy", changed, detail, "python -m setup connect")


def _connect(recipe: Recipe) -> Result:
    changed = connect(recipe)
    endpoint = LocalEndpoint(recipe.endpoint.name)
    *others, last = connection_values(recipe, endpoint)
    detail = f"connections {', '.join(others)} and {last} reach endpoint {endpoint.name}"
    question = "What is the capital of France?"
    command = f'pf flow test --flow flows/chat --inputs question="{question}"'
    return Result("connect", changed, f"{detail}, its key kept by {keyring_name()}", command)


def stop(recipe: Recipe) -> Result:
    """Stop the recipe's endpoint."""
    endpoint = LocalEndpoint(recipe.endpoint.name)
    stopped = endpoint.stop(recipe.endpoint.request_timeout + 10)
    state = "stopped" if stopped else "was not running"
    return Result("stop", stopped, f"endpoint {endpoint.name} {state}", "python -m setup deploy")


def endpoint_status(recipe: Recipe) -> dict[str, Any]:
    """What runs, asked of the endpoint itself; ``running`` False when there is nothing to ask."""
    endpoint = LocalEndpoint(recipe.endpoint.name)
    process = endpoint.process()
    if process is None:
        return {"name": endpoint.name, "running": False, "healthy": False}
    return {
        "running": True,
        "healthy": endpoint.healthy(),
        "pid": process.pid,
        "url": endpoint.url,
        "log": str(endpoint.log_path),
        **endpoint.manage("GET"),
    }


def shift_traffic(recipe: Recipe, shares: list[str]) -> dict[str, int]:
    """Give each deployment its ``NAME=PERCENT`` of the traffic; returns the table.

    Raises:
        FixableError: Not of that form, or the endpoint refuses it.
    """
    table = {}
    for share in shares:
        name, _, percent = share.partition("=")
        if not percent.isdecimal():
            raise FixableError(f"{share!r} is not DEPLOYMENT=PERCENT", "base=90 tuned=10")
        table[name] = int(percent)
    LocalEndpoint(recipe.endpoint.name).manage("PUT", "/traffic", table)
    return table


def delete_deployment(recipe: Recipe, name: str) -> None:
    """Remove a deployment once what it has accepted is answered."""
    patience = recipe.endpoint.request_timeout + 10
    LocalEndpoint(recipe.endpoint.name).manage("DELETE", f"/deployments/{name}", timeout=patience)


def log_lines(recipe: Recipe, count: int, follow: bool, deployment: str) -> Iterator[str]:
    """The last ``count`` lines of the endpoint's log, then new ones as they come."""
    endpoint = LocalEndpoint(recipe.endpoint.name)
    path = endpoint.log_path
    if deployment:
        path = endpoint.folder / f"engine-{deployment}.log"
    if not path.is_file():
        raise FixableError(f"no log at {path}", "python -m setup status, and name what it lists")
    if path.stat().st_size == 0:
        console.err.print(f"{path} is empty: nothing has gone wrong")
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


STEPS = [
    Step("data", "Prepare and check the train and test splits.", _plan_data, _data),
    Step(
        "deploy",
        "Serve the base model and the registered version side by side.",
        plan_deploy,
        _deploy,
    ),
    Step("connect", "Create the connections the flows use.", plan_connect, _connect),
]
