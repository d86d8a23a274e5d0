"""The settings of an endpoint: the file that its service owns and rewrites."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from setup.common.paths import read_json, write_private
from setup.recipe.local import Collect, Origin

SETTINGS, KEYS, PID, LOG = "endpoint.json", "keys.json", "endpoint.pid", "endpoint.log"

COLLECTOR = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
)


def names_collector() -> bool:
    """Tell whether the environment names a collector of traces."""
    return any(map(os.environ.get, COLLECTOR))


class DeploymentSettings(BaseModel):
    """One deployment; ``context_window`` in tokens of one conversation, times in seconds.

    ``model_stamp`` differs when the file at ``model_path`` is another one than before.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_path: str
    model_stamp: str = ""
    context_window: int = Field(ge=256)
    slots: int = Field(default=4, ge=1, le=64)
    threads: int = Field(default=0, ge=0, le=256)
    queue: int = Field(default=16, ge=0)
    request_timeout: float = Field(default=180.0, gt=0)
    start_timeout: float = Field(default=120.0, gt=0)

    @property
    def engine_threads(self) -> int:
        """Threads of the engine; one core stays free, because barriers spin when none is."""
        return self.threads or max(1, (os.cpu_count() or 2) - 1)


class EndpointSettings(BaseModel):
    """An endpoint with its deployments and the share of traffic (percent) each takes."""

    model_config = ConfigDict(extra="forbid")

    name: str
    host: str
    port: int
    max_body: int = 1_048_576
    read_timeout: float = 30.0
    requests_per_minute: int = Field(default=0, ge=0)
    allowed_origins: list[Origin] = ["loopback"]
    collect: Collect = "none"
    collect_limit: int = 104_857_600
    deployments: dict[str, DeploymentSettings] = {}
    traffic: dict[str, int] = {}

    @classmethod
    def load(cls, folder: Path) -> EndpointSettings | None:
        """The settings in ``folder``, None where the endpoint was never created."""
        content = read_json(folder / SETTINGS)
        return None if content is None else cls.model_validate(content)

    def save(self, folder: Path) -> None:
        """Write the settings atomically: a crash leaves the old file or the new one."""
        write_private(folder / SETTINGS, self.model_dump())
