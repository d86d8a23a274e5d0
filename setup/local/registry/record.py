"""The record of a run and of its model in MLflow: parameters, curves, data, tags, files."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from setup.common.paths import portable_name
from setup.finetune.run import history
from setup.local.registry import finished, live_curve, store
from setup.local.registry.curve import draw_curve

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, LoggedModel, Metric
    from mlflow.models import Model, ModelSignature


# What Azure's catalog calls a chat model, in the MLmodel file of the model this project is named
# after: https://github.com/Azure/azureml-assets,
# assets/models/system/phi-3-mini-4k-instruct/MLmodel (base_model_task, task_type).
# MLflow's own value, llm/v1/chat, promises OpenAI's reply object instead of a text:
# https://mlflow.org/docs/3.3.2/ml/deep-learning/transformers/task
_TASK = "chat-completion"
_LOSSES = (
    *("held_out_loss_before", "held_out_loss_after"),
    *("general_loss_before", "general_loss_after"),
)
_FORECAST = ("total_seconds", "predicted_seconds", "predicted_memory")
_TRAINING = ("steps", "best_step", "epochs", "tokens", "seconds", "peak_memory")


def log_run(client: MlflowClient, experiment_id: str, run: finished.FinishedRun) -> str:
    """Record ``run`` with its curves and files, and return its id; it is not terminated yet.

    Where it was shown while it trained, that is the one, and gets what it lacks.

    The recipe's values are named as ``--set`` names them.
    """
    from mlflow.entities import Param, RunTag

    result = run.result
    seen = {"origin": str(result.origin)} if result.origin else {}
    tags = {
        **result.identity,
        **(seen or {"train_sha256": result.data.train_sha256}),
        "precision": result.precision,
        **{f"version.{name}": version for name, version in result.versions.items()},
    }
    started = milliseconds(run.started)
    shown = live_curve.find_run(client, experiment_id, result.fingerprint)
    if shown is None:
        shown = client.create_run(experiment_id, started, tags, run_name=run.folder.name)
    run_id = str(shown.info.run_id)
    parameters = [
        Param(f"{section}.{field}", str(value))
        for section in ("finetune", "data", "model")
        for field, value in dict(run.recipe.get(section) or {}).items()
    ]
    known = live_curve.known_points(client, run_id)
    metrics = [point for point in _metrics(run) if (point.key, point.step) not in known]
    recorded = [RunTag(name, value) for name, value in tags.items()]
    client.log_batch(run_id, params=parameters, metrics=metrics, tags=recorded)
    client.log_inputs(run_id, _data_inputs(run))
    names = [finished.RECIPE, finished.RESULT, *([finished.HISTORY] if run.entries else [])]
    for name in names:
        client.log_artifact(run_id, str(run.folder / name))
    if run.entries:
        _log_curve(client, run_id, run)
    target = store.local_path(client.get_run(run_id).info.artifact_uri)
    for name in names:
        store.check_copy(run.folder / name, target / name)
    return run_id


def _log_curve(client: MlflowClient, run_id: str, run: finished.FinishedRun) -> None:
    with tempfile.TemporaryDirectory() as draft:
        picture = Path(draft) / finished.CURVE
        draw_curve(run.folder / finished.HISTORY, picture)
        client.log_artifact(run_id, str(picture))


def milliseconds(seconds: float) -> int:
    """MLflow's unit of time."""
    return int(seconds * 1000)


def _metrics(run: finished.FinishedRun) -> list[Metric]:
    """The three curves, each point at its step and its time, then the final values."""
    from mlflow.entities import Metric

    points = [
        Metric(name, point.value, milliseconds(run.started + point.seconds), point.step)
        for name in (history.LOSS, history.HELD_OUT_LOSS, history.SPEED)
        for point in history.curve(run.entries, name)
    ]
    result, ended = run.result, milliseconds(run.ended)
    names = _LOSSES if result.origin else (*_LOSSES, *_TRAINING)
    final = {name: float(getattr(result, name)) for name in names}
    if not result.origin:
        final["mean_tokens_per_second"] = result.tokens_per_second
        forecast = {name: getattr(result, name) for name in _FORECAST}
        final |= {name: float(value) for name, value in forecast.items() if value is not None}
    return points + [Metric(name, value, ended, result.steps) for name, value in final.items()]


def _data_inputs(run: finished.FinishedRun) -> list[DatasetInput]:
    """The two sets of rows, which MLflow shows as datasets; it takes digests of 36 characters."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    data = run.result.data
    source = json.dumps({"uri": str(dict(run.recipe.get("data") or {}).get("source", ""))})
    return [
        DatasetInput(
            Dataset(name, digest[:12], "local", source, profile=json.dumps({"num_rows": rows})),
            [InputTag("mlflow.data.context", context)],
        )
        for name, context, digest, rows in (
            ("train", "training", data.train_sha256, data.train_rows),
            ("held_out", "validation", data.held_out_sha256, data.held_out_rows),
        )
        if name != "train" or not run.result.origin
    ]


def log_model(
    client: MlflowClient, experiment_id: str, run_id: str, name: str, run: finished.FinishedRun
) -> LoggedModel:
    """Record the run's adapter and tokenizer as model ``name``, every copy checked."""
    from mlflow.entities import LoggedModelOutput

    model = client.create_logged_model(
        experiment_id,
        name=name,
        source_run_id=run_id,
        tags={"fingerprint": run.result.fingerprint},
        model_type="chat",
    )
    target = store.local_path(model.artifact_location)
    for part in (finished.ADAPTER, finished.TOKENIZER):
        client.log_model_artifacts(model.model_id, str(run.folder / part), part)
        store.check_copy(run.folder / part, target / part)
    with tempfile.TemporaryDirectory() as draft:
        file = Path(draft) / "MLmodel"
        _describe(run.result, run_id, model.model_id).save(str(file))
        client.log_model_artifact(model.model_id, str(file))
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, run.result.best_step)])
    return client.finalize_logged_model(model.model_id, "READY")


def _describe(result: finished.Result, run_id: str, model_id: str) -> Model:
    """The MLmodel of a LoRA adapter with its tokenizer.

    There is no ``python_function`` flavor: the weights of the base model are not in it, so MLflow
    cannot load it alone. ``peft`` names the base they belong to, by source and SHA-256; of a path
    of this machine it says the name of the file alone.
    """
    from mlflow.models import Model

    base = portable_name(result.base.source)
    adapter = {
        "task_type": _TASK,
        "adapter": finished.ADAPTER,
        "tokenizer": finished.TOKENIZER,
        "base_model": base,
        "base_sha256": result.base.sha256,
        "precision": result.precision,
        **{f"{name}_version": version for name, version in result.versions.items()},
    }
    return Model(
        artifact_path="model",
        run_id=run_id,
        model_id=model_id,
        model_uuid=model_id,
        flavors={"peft": adapter},
        signature=_signature(),
        metadata={"base_model_name": base, "base_model_task": _TASK},
    )


def _signature() -> ModelSignature:
    """Messages in, a text out, and the parameters of the endpoint's ``/score`` contract."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array, Object, Property

    text, double = DataType.string, DataType.double
    message = Object([Property("role", text), Property("content", text)])
    parameters = [
        ParamSpec("temperature", double, 0.7),
        ParamSpec("top_p", double, 1.0),
        ParamSpec("max_new_tokens", DataType.long, 256),
    ]
    return ModelSignature(
        inputs=Schema([ColSpec(Array(message), name="messages")]),
        outputs=Schema([ColSpec(text, name="output")]),
        params=ParamSchema(parameters),
    )
