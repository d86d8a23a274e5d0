"""Makes a finished fine-tuning run a version of the registered model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from setup.local.registry import champion, finished, live_curve, record, store, versions

if TYPE_CHECKING:
    from mlflow import MlflowClient


def register_finetune(model_name: str, folder: Path) -> versions.Version:
    """Make the finished run in ``folder`` a version of ``model_name``, and perhaps its champion.

    A run that is registered already is returned unchanged; one whose registration was killed is
    registered anew, without what was left of it. Waits for other processes that register.

    Raises:
        FixableError: The run is not finished, diverged or is damaged (then nothing is registered),
            or the registry cannot be written.
    """
    run = finished.read_finished(folder)
    with store.change_registry() as client:
        version = _find(client, model_name, run.result.fingerprint)
        if version is None:
            number = _make_version(client, model_name, run)
            registered = versions.read_versions(client, model_name)
            version = versions.find_version(registered, model_name, number)
        if not version.note:
            champion.decide(client, version)
    registered = versions.list_versions(model_name)
    return versions.find_version(registered, model_name, str(version.number))


def _find(client: MlflowClient, model_name: str, fingerprint: str) -> versions.Version | None:
    """The version of the run; one whose files somebody deleted gives way to a new one."""
    for version in versions.read_versions(client, model_name):
        if version.fingerprint == fingerprint:
            if version.weights.is_file():
                return version
            client.delete_model_version(model_name, str(version.number))
    return None


def _make_version(client: MlflowClient, model_name: str, run: finished.FinishedRun) -> str:
    """Record the run, copy its files, check the copies, and only then make the version."""
    experiment_id = store.experiment_of(client, model_name)
    _delete_leftovers(client, experiment_id, run.result.fingerprint)
    run_id = record.log_run(client, experiment_id, run)
    model = record.log_model(client, experiment_id, run_id, model_name, run)
    client.set_terminated(run_id, end_time=record.milliseconds(run.ended))
    if not client.search_registered_models(f"name = '{model_name}'"):
        client.create_registered_model(model_name)
    version = client.create_model_version(
        model_name,
        source=f"models:/{model.model_id}",
        run_id=run_id,
        tags=_tags(run.result, store.local_path(model.artifact_location)),
        model_id=model.model_id,
    )
    return str(version.version)


def _tags(result: finished.Result, folder: Path) -> dict[str, Any]:
    """The fields of a ``Version`` that MLflow does not keep itself; ``folder`` of its files."""
    return {
        **result.identity,
        "held_out_before": result.held_out_loss_before,
        "held_out_after": result.held_out_loss_after,
        "general_before": result.general_loss_before,
        "general_after": result.general_loss_after,
        "train_rows": result.data.train_rows,
        "epochs": result.epochs,
        "seconds": result.seconds,
        "data_source": result.data.source,
        "origin": str(result.origin or ""),
        "folder": folder.relative_to(store.artifacts_folder().resolve()).as_posix(),
    }


def _delete_leftovers(client: MlflowClient, experiment_id: str, fingerprint: str) -> None:
    """Whatever was recorded of models of a run that is no version, and of runs but the first.

    Files first, so that a kill loses none. The first run is the one that was shown while it
    trained, or that an earlier registration began.
    """
    same = f"tags.fingerprint = '{fingerprint}'"
    for model in client.search_logged_models([experiment_id], filter_string=same):
        store.remove_files(model.artifact_location)
        client.delete_logged_model(model.model_id)
    first = live_curve.find_run(client, experiment_id, fingerprint)
    for run in client.search_runs([experiment_id], filter_string=same):
        store.remove_files(run.info.artifact_uri)
        if first is None or run.info.run_id != first.info.run_id:
            client.delete_run(run.info.run_id)
