"""The notes that Azure ML takes of a job while it runs: its steps, its errors and losses.

The run history is where the studio reads too; the jobs of Azure Resource Manager know the state of
a pipeline but nothing of its steps. Shapes: the client of azure-ai-ml, ``_restclient/runhistory``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from setup.azure.client.explain import causes
from setup.azure.client.session import AzureSession

ENDED = {"Completed", "Failed", "Canceled"}
WAITING = {"NotStarted", "Queued", "Starting", "Provisioning", "Preparing"}


@dataclass(frozen=True)
class Run:
    """A job, or a step of one, at one moment."""

    name: str
    title: str
    status: str
    error: str
    started: datetime | None
    ended: datetime | None

    @property
    def over(self) -> bool:
        """Tell whether it has ended, well or not."""
        return self.status in ENDED

    @property
    def hours(self) -> float:
        """Return for how long it ran; 0 where it does not say."""
        if not self.started or not self.ended:
            return 0.0
        return (self.ended - self.started).total_seconds() / 3600


class History:
    """The run history and the metrics of a session's workspace.

    Every method raises AzureError: refused, or no connection.
    """

    def __init__(self, session: AzureSession) -> None:
        self._workspace = session.workspace_path()
        workspace = session.arm.get(self._workspace)
        parts = urlsplit(workspace["properties"]["discoveryUrl"])
        self._host = f"{parts.scheme}://{parts.netloc}"
        self._arm = session.arm

    def run(self, name: str) -> Run:
        """The job or step ``name``."""
        return _read(self._get(f"/history/v1.0{self._workspace}/runs/{name}/details"))

    def steps(self, name: str) -> list[Run]:
        """The steps of a pipeline and the steps in them, in the order they were made."""
        runs = []
        listed = self._get(f"/history/v1.0{self._workspace}/runs/{name}/children")
        for row in listed.get("value") or []:
            kind = f"{row.get('runType')} {row.get('runTypeV2')}".lower()
            inner = self.steps(row["runId"]) if "pipeline" in kind else []
            runs += inner or [_read(row)]
        return runs

    def metrics(self, name: str) -> dict[str, float]:
        """The last value of each metric that a job logged, by MLflow's REST protocol.

        https://mlflow.org/docs/latest/rest-api.html#get-run
        """
        path = f"/mlflow/v1.0{self._workspace}/api/2.0/mlflow/runs/get"
        rows = self._get(path, run_id=name).get("run", {}).get("data", {}).get("metrics", [])
        return {row["key"]: float(row["value"]) for row in rows}

    def _get(self, path: str, **query: str) -> dict[str, Any]:
        content: dict[str, Any] = self._arm.ask(self._host + path, **query).json()
        return content


def _read(row: dict[str, Any]) -> Run:
    error = next(causes((row.get("error") or {}).get("error")), ())
    return Run(
        name=row["runId"],
        title=row.get("displayName") or row["runId"],
        status=row.get("status") or "NotStarted",
        error=": ".join(filter(None, error)),
        started=_time(row.get("startTimeUtc")),
        ended=_time(row.get("endTimeUtc")),
    )


def _time(text: str | None) -> datetime | None:
    if not text:
        return None
    parsed = datetime.fromisoformat(text)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
