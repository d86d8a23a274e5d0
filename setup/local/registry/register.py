"""Makes a finished fine-tuning run a version of the registered model."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from setup.common.errors import FixableError
from setup.local.registry.champion import crown, judge, write_note
from setup.local.registry.curve import draw_curve
from setup.local.registry.finished import (
    ADAPTER,
    CURVE,
    HISTORY,
    RECIPE,
    RESULT,
    TOKENIZER,
    FinishedRun,
    read_finished,
)
from setup.local.registry.record import (
    data_inputs,
    describe_model,
    metrics,
    milliseconds,
    parameters,
    run_tags,
    version_tags,
)
from setup.local.registry.store import (
    artifacts_folder,
    change_registry,
    check_copy,
    local_path,
    remove_files,
)
from setup.local.registry.versions import Version, find_version, list_versions, read_versions

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

_METRICS_AT_ONCE = 1000  # MLflow takes no more in one call


def register_finetune(model_name: str, folder: Path) -> Version:
    """Make the finished run in ``folder`` a version of ``model_name``, and perhaps its champion.

    A run that is registered already is returned unchanged; one whose registration was killed is
    registered anew, without what was left of it. Waits for other processes that register.

    Raises:
        FixableError: The run is not finished, diverged or is damaged (then nothing is registered),
            or the registry cannot be written.
    """
    run = read_finished(folder)
    with change_registry() as client:
        version = _find(client, model_name, run.result.fingerprint)
        if version is None:
            number = _make_version(client, model_name, run)
            version = find_version(read_versions(client, model_name), model_name, number)
        if not version.note:
            _decide(client, version)
    return find_version(list_versions(model_name), model_name, str(version.number))


def _find(client: MlflowClient, model_name: str, fingerprint: str) -> Version | None:
    """The version of the run; one whose files somebody deleted gives way to a new one."""
    for version in read_versions(client, model_name):
        if version.fingerprint == fingerprint:
            if version.weights.is_file():
                return version
            client.delete_model_version(model_name, str(version.number))
    return None


def _decide(client: MlflowClient, version: Version) -> None:
    versions = read_versions(client, version.model)
    champion = next((other for other in versions if other.champion), None)
    better, why = judge(version, champion)
    if better:
        crown(client, version, why)
    else:
        write_note(client, version, why)


def _make_version(client: MlflowClient, model_name: str, run: FinishedRun) -> str:
    """Record the run, copy its files, check the copies, and only then make the version."""
    experiment_id = _experiment(client, model_name)
    _delete_leftovers(client, experiment_id, run.result.fingerprint)
    run_id = _start_run(client, experiment_id, run)
    _log_files(client, run_id, run)
    model = _log_model(client, experiment_id, run_id, model_name, run)
    client.set_terminated(run_id, end_time=milliseconds(run.ended))
    if not client.search_registered_models(f"name = '{model_name}'"):
        client.create_registered_model(model_name)
    folder = local_path(model.artifact_location).relative_to(artifacts_folder().resolve())
    version = client.create_model_version(
        model_name,
        source=f"models:/{model.model_id}",
        run_id=run_id,
        tags=version_tags(run, folder),
        model_id=model.model_id,
    )
    return str(version.version)


def _experiment(client: MlflowClient, model_name: str) -> str:
    """The experiment that bears the model's name, its artifacts in a folder of that name."""
    folder = (artifacts_folder() / model_name).resolve()
    experiment = client.get_experiment_by_name(model_name)
    if experiment is None:
        return str(client.create_experiment(model_name, artifact_location=folder.as_uri()))
    if local_path(experiment.artifact_location) != folder:
        what = f"the registry was moved: MLflow would write to {experiment.artifact_location}"
        raise FixableError(what, f"move it back there, or move {folder.parent.parent} away")
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def _delete_leftovers(client: MlflowClient, experiment_id: str, fingerprint: str) -> None:
    """Whatever was recorded of a run that is no version; files first, so that a kill loses none."""
    same = f"tags.fingerprint = '{fingerprint}'"
    for model in client.search_logged_models([experiment_id], filter_string=same):
        remove_files(model.artifact_location)
        client.delete_logged_model(model.model_id)
    for run in client.search_runs([experiment_id], filter_string=same):
        remove_files(run.info.artifact_uri)
        client.delete_run(run.info.run_id)


def _start_run(client: MlflowClient, experiment_id: str, run: FinishedRun) -> str:
    started = milliseconds(run.started)
    tags = run_tags(run)
    created = client.create_run(experiment_id, started, tags, run_name=run.folder.name)
    run_id = str(created.info.run_id)
    client.log_batch(run_id, params=parameters(run))
    points = metrics(run)
    for first in range(0, len(points), _METRICS_AT_ONCE):
        client.log_batch(run_id, metrics=points[first : first + _METRICS_AT_ONCE])
    client.log_inputs(run_id, data_inputs(run))
    return run_id


def _log_files(client: MlflowClient, run_id: str, run: FinishedRun) -> None:
    names = (RECIPE, RESULT, HISTORY)
    for name in names:
        client.log_artifact(run_id, str(run.folder / name))
    with tempfile.TemporaryDirectory() as draft:
        picture = Path(draft) / CURVE
        draw_curve(run.folder / HISTORY, picture)
        client.log_artifact(run_id, str(picture))
    target = local_path(client.get_run(run_id).info.artifact_uri)
    for name in names:
        check_copy(run.folder / name, target / name)


def _log_model(
    client: MlflowClient, experiment_id: str, run_id: str, model_name: str, run: FinishedRun
) -> LoggedModel:
    from mlflow.entities import LoggedModelOutput  # noqa: PLC0415 - seconds of import

    model = client.create_logged_model(
        experiment_id,
        name=model_name,
        source_run_id=run_id,
        tags={"fingerprint": run.result.fingerprint},
        model_type="chat",
    )
    target = local_path(model.artifact_location)
    for part in (ADAPTER, TOKENIZER):
        client.log_model_artifacts(model.model_id, str(run.folder / part), part)
        check_copy(run.folder / part, target / part)
    with tempfile.TemporaryDirectory() as draft:
        file = Path(draft) / "MLmodel"
        describe_model(run.result, run_id, model.model_id).save(str(file))
        client.log_model_artifact(model.model_id, str(file))
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, run.result.best_step)])
    return client.finalize_logged_model(model.model_id, "READY")
