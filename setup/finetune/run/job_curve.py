"""The curve of a run in an Azure job, on the MLflow server that Azure ML gives every job.

``python -m setup.finetune.run.job_curve FOLDER``, started beside the training. By MLflow's REST
protocol and the job's own token, as the plug-in for Azure does not take the MLflow that is locked:
https://learn.microsoft.com/azure/machine-learning/how-to-use-mlflow-configure-tracking
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from setup.common.errors import FixableError
from setup.finetune.run.live import Points, follow, in_one_line

COMMAND = ("setup.finetune.run.job_curve",)
_SERVER, _TOKEN, _RUN = "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN", "MLFLOW_RUN_ID"
_SECONDS = 30.0
_AT_ONCE = 500  # metrics; the protocol takes 1000


def is_in_job() -> bool:
    """Tell whether this process is part of a job that has a run in MLflow."""
    return bool(os.environ.get(_SERVER) and os.environ.get(_RUN))


class JobRun:
    """The job's run on its server; the job itself says how it ends."""

    def __init__(self) -> None:
        place = urlsplit(os.environ[_SERVER])
        scheme = place.scheme if place.scheme in ("http", "https") else "https"
        self._url = f"{scheme}://{place.netloc}{place.path}/api/2.0/mlflow/runs"
        self._host, self._run = place.hostname, os.environ[_RUN]

    def known(self) -> set[tuple[str, int]]:
        """The steps up to the last of each metric."""
        reply = self._ask("GET", "get", params={"run_id": self._run})
        rows = reply.get("run", {}).get("data", {}).get("metrics", [])
        return {(row["key"], step) for row in rows for step in range(int(row.get("step", 0)) + 1)}

    def add(self, points: Points) -> None:
        """Write points, some hundred at once."""
        now = int(time.time() * 1000)
        metrics = [
            {"key": name, "value": point.value, "timestamp": now, "step": point.step}
            for name, point in points
        ]
        for start in range(0, len(metrics), _AT_ONCE):
            part = metrics[start : start + _AT_ONCE]
            self._ask("POST", "log-batch", json={"run_id": self._run, "metrics": part})

    def end(self, status: str) -> None:
        """Nothing: Azure ends the run with the job."""

    def _ask(self, method: str, verb: str, **content: Any) -> dict[str, Any]:
        import requests

        token = os.environ.get(_TOKEN, "")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            reply = requests.request(
                method, f"{self._url}/{verb}", headers=headers, timeout=_SECONDS, **content
            )
            reply.raise_for_status()
            answer: dict[str, Any] = reply.json() if reply.content else {}
        except requests.RequestException as error:
            what = f"{type(error).__name__} from {self._host}"
            raise FixableError(what, "look at the losses in the job's log") from None
        return answer


def main() -> None:
    """Follow the run in the folder that is named."""
    with in_one_line():
        follow(Path(sys.argv[1]) / "history.jsonl", JobRun())


if __name__ == "__main__":
    main()
