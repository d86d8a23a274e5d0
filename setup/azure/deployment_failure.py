"""A deployment that does not come up or does not answer: its log, and the likely cause."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from setup import console
from setup.azure.endpoint import ManagedEndpoint
from setup.azure.explain import one_line
from setup.paths import endpoint_folder

_TABLE = Path(__file__).with_name("deployment_causes.yaml")
_LINES = 400  # of the container's log that are kept
SHOWN = 15  # of them on the screen
_CONTAINERS = ("inference-server", "storage-initializer")  # as the Azure CLI names them


class Cause(NamedTuple):
    """What probably went wrong, and what helps."""

    cause: str
    fix: str


class Log(NamedTuple):
    """The end of a container's log, without secrets, and the file it was written to."""

    lines: list[str]
    path: Path


def likely_cause(texts: Iterable[str]) -> Cause | None:
    """The first known cause that has left a sign in any of the texts."""
    together = "\n".join(texts)
    for row in _causes():
        if re.search(row["sign"], together, re.IGNORECASE):
            return Cause(row["cause"], row["fix"])
    return None


def fetch_log(endpoint: ManagedEndpoint, deployment: str) -> Log:
    """Show the last lines that a deployment's containers printed, and keep more of them in a file.

    Nothing that looks like a token or a key gets into either.
    """
    lines = [
        one_line(line)
        for container in reversed(_CONTAINERS)
        for line in _read(endpoint, deployment, container).splitlines()
        if line.strip()
    ]
    path = endpoint_folder(endpoint.name) / f"{deployment}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    for line in lines[-SHOWN:]:
        console.err.print(f"  {deployment}: {line}", markup=False)
    return Log(lines, path)


def _read(endpoint: ManagedEndpoint, deployment: str, container: str) -> str:
    from azure.core.exceptions import AzureError  # noqa: PLC0415 - azure is slow

    try:
        return str(
            endpoint.ml.online_deployments.get_logs(
                deployment, endpoint.name, lines=_LINES, container_type=container
            )
        )
    except AzureError:  # there is no container yet, or none any more
        return ""


@cache
def _causes() -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))
    return content
