"""Questions to the running endpoint, and orders to it, between the steps of the path."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from setup.common import console
from setup.common.errors import FixableError
from setup.common.step import Result
from setup.local.control import LocalEndpoint
from setup.recipe.local import Recipe


def stop(recipe: Recipe) -> Result:
    """Stop the recipe's endpoint."""
    endpoint = LocalEndpoint(recipe)
    stopped = endpoint.stop(recipe.endpoint.request_timeout + 10)
    state = "stopped" if stopped else "was not running"
    return Result("stop", stopped, f"endpoint {endpoint.name} {state}", "python -m setup deploy")


def endpoint_status(recipe: Recipe) -> dict[str, Any]:
    """Ask the endpoint itself what runs; ``running`` is False when there is nothing to ask."""
    endpoint = LocalEndpoint(recipe)
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
    LocalEndpoint(recipe).manage("PUT", "/traffic", table)
    return table


def delete_deployment(recipe: Recipe, name: str) -> None:
    """Remove a deployment once what it has accepted is answered."""
    patience = recipe.endpoint.request_timeout + 10
    LocalEndpoint(recipe).manage("DELETE", f"/deployments/{name}", timeout=patience)


def log_lines(recipe: Recipe, count: int, follow: bool, deployment: str) -> Iterator[str]:
    """The last ``count`` lines of the endpoint's log, then new ones as they come."""
    endpoint = LocalEndpoint(recipe)
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
