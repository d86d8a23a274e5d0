"""The log of a deployment that does not come up or does not answer."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from setup import console
from setup.azure.endpoint import ManagedEndpoint
from setup.azure.explain import one_line
from setup.paths import endpoint_folder

_LINES = 400  # of the container's log that are kept
SHOWN = 15  # of them on the screen
_CONTAINERS = ("inference-server", "storage-initializer")  # as the Azure CLI names them


class Log(NamedTuple):
    """The end of a container's log, without secrets, and the file it was written to."""

    lines: list[str]
    path: Path


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
