"""A run in MLflow from its first step on: begun, gone on with, and later made a version.

``python -m setup.local.registry.live_curve MODEL FINGERPRINT FOLDER``, started beside the training.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from setup.finetune.run.history import HELD_OUT_LOSS, LOSS, SPEED
from setup.finetune.run.live import FINGERPRINT, Points, Shown, follow, in_one_line
from setup.local.registry import finished, store, versions

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_SHOWN_AFTER = 10.0  # seconds of training; `register` writes the curve of a shorter run
_RUNNING = "RUNNING"


def shown_in(model: str) -> Shown:
    """The way to show a run that trains among the runs of the registered model ``model``."""
    return Shown(("setup.local.registry.live_curve", model, FINGERPRINT), _SHOWN_AFTER)


def find_run(client: MlflowClient, experiment_id: str, fingerprint: str) -> Run | None:
    """The run that was shown while it trained; None where it was not, or is somebody else's."""
    same = f"tags.fingerprint = '{fingerprint}'"
    return next(iter(client.search_runs([experiment_id], same, order_by=["start_time ASC"])), None)


def known_points(client: MlflowClient, run_id: str) -> set[tuple[str, int]]:
    """The names and steps of the points that the run has."""
    return {
        (name, point.step)
        for name in (LOSS, HELD_OUT_LOSS, SPEED)
        for point in client.get_metric_history(run_id, name)
    }


class LocalRun:
    """The run in this machine's registry."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client, self._run_id = client, run_id

    def known(self) -> set[tuple[str, int]]:
        """The points from before the run was stopped."""
        return known_points(self._client, self._run_id)

    def add(self, points: Points) -> None:
        """Write points in one transaction; those read together are of one moment."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, point.value, now, point.step) for name, point in points]
        self._client.log_batch(self._run_id, metrics=metrics)

    def end(self, status: str) -> None:
        """Say how the run has ended, whether it goes on later or not."""
        self._client.set_terminated(self._run_id, status)


def begin(model_name: str, fingerprint: str, folder: Path) -> str:
    """The id of the run, made or taken up again; empty where it is a version already."""
    with store.change_registry() as client:
        registered = versions.read_versions(client, model_name)
        if any(version.fingerprint == fingerprint for version in registered):
            return ""
        experiment_id = store.experiment_of(client, model_name)
        run = find_run(client, experiment_id, fingerprint)
        if run is None:
            now, tags = int(time.time() * 1000), {"fingerprint": fingerprint}
            run = client.create_run(experiment_id, now, tags, run_name=folder.name)
        elif run.info.status != _RUNNING:
            client.update_run(run.info.run_id, _RUNNING)
        return str(run.info.run_id)


def main() -> None:
    """Follow the run in the folder that is named, after what a killed one left to be written."""
    model_name, fingerprint, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    with in_one_line():
        run_id = begin(model_name, fingerprint, folder)
        if not run_id:
            print("its curve is in MLflow, as it is registered already", flush=True)  # noqa: T201
            return
        with FileLock(f"{folder}.live.lock"), store.open_registry() as client:
            follow(folder / finished.HISTORY, LocalRun(client, run_id))


if __name__ == "__main__":
    main()
