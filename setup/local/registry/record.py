"""The record of a run in MLflow: parameters, curves, data, tags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setup.finetune.run.history import HELD_OUT_LOSS, LOSS, SPEED, curve
from setup.local.registry.finished import FinishedRun

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Metric, Param

from setup.common.paths import portable_name
from setup.local.registry.finished import ADAPTER, TOKENIZER, Result

if TYPE_CHECKING:
    from mlflow.models import Model, ModelSignature

_FINAL = (
    "held_out_loss_before",
    "held_out_loss_after",
    "general_loss_before",
    "general_loss_after",
    "steps",
    "best_step",
    "epochs",
    "tokens",
    "seconds",
    "peak_memory",
)


def milliseconds(seconds: float) -> int:
    """MLflow's unit of time."""
    return int(seconds * 1000)


def parameters(run: FinishedRun) -> list[Param]:
    """The recipe's fine-tuning, data and model sections, named as ``--set`` names them."""
    from mlflow.entities import Param  # noqa: PLC0415 - seconds of import

    return [
        Param(f"{section}.{field}", str(value))
        for section in ("finetune", "data", "model")
        for field, value in dict(run.recipe.get(section) or {}).items()
    ]


def metrics(run: FinishedRun) -> list[Metric]:
    """The three curves, each point at its step and its time, then the final values."""
    from mlflow.entities import Metric  # noqa: PLC0415

    points = [
        Metric(name, point.value, milliseconds(run.started + point.seconds), point.step)
        for name in (LOSS, HELD_OUT_LOSS, SPEED)
        for point in curve(run.history, name)
    ]
    result, ended = run.result, milliseconds(run.ended)
    final = {name: float(getattr(result, name)) for name in _FINAL}
    final["mean_tokens_per_second"] = result.tokens_per_second
    return points + [Metric(name, value, ended, result.steps) for name, value in final.items()]


def data_inputs(run: FinishedRun) -> list[DatasetInput]:
    """The two sets of rows, which MLflow shows as datasets; it takes digests of 36 characters."""
    from mlflow.entities import Dataset, DatasetInput, InputTag  # noqa: PLC0415

    data = run.result.data
    used = dict(run.recipe.get("data") or {})
    source = json.dumps({"uri": str(used.get("source", ""))})
    return [
        DatasetInput(
            Dataset(name, digest[:12], "local", source, profile=json.dumps({"num_rows": rows})),
            [InputTag("mlflow.data.context", context)],
        )
        for name, context, digest, rows in (
            ("train", "training", data.train_sha256, data.train_rows),
            ("held_out", "validation", data.held_out_sha256, data.held_out_rows),
        )
    ]


def run_tags(run: FinishedRun) -> dict[str, str]:
    """Return the tags that identify the run: fingerprint, hashes of base and data, versions."""
    result = run.result
    return {
        "fingerprint": result.fingerprint,
        "base_source": result.base.source,
        "base_sha256": result.base.sha256,
        "train_sha256": result.data.train_sha256,
        "held_out_sha256": result.data.held_out_sha256,
        "precision": result.precision,
        **{f"version.{name}": version for name, version in result.versions.items()},
    }


def version_tags(run: FinishedRun, folder: Path) -> dict[str, Any]:
    """The fields of a ``Version`` that MLflow does not keep itself; ``folder`` of its files."""
    result = run.result
    return {
        "held_out_before": result.held_out_loss_before,
        "held_out_after": result.held_out_loss_after,
        "general_before": result.general_loss_before,
        "general_after": result.general_loss_after,
        "train_rows": result.data.train_rows,
        "epochs": result.epochs,
        "seconds": result.seconds,
        "fingerprint": result.fingerprint,
        "base_source": result.base.source,
        "base_sha256": result.base.sha256,
        "held_out_sha256": result.data.held_out_sha256,
        "data_source": result.data.source,
        "folder": folder.as_posix(),
    }


# What Azure's catalog calls a chat model, in the MLmodel file of the model this project is named
# after: https://github.com/Azure/azureml-assets,
# assets/models/system/phi-3-mini-4k-instruct/MLmodel (base_model_task, task_type).
# MLflow's own value, llm/v1/chat, promises OpenAI's reply object instead of a text:
# https://mlflow.org/docs/3.3.2/ml/deep-learning/transformers/task
TASK = "chat-completion"


def describe_model(result: Result, run_id: str, model_id: str) -> Model:
    """The MLmodel of a LoRA adapter with its tokenizer.

    There is no ``python_function`` flavor: the weights of the base model are not in it, so MLflow
    cannot load it alone. ``peft`` names the base they belong to, by source and SHA-256; of a path
    of this machine it says the name of the file alone.
    """
    from mlflow.models import Model  # noqa: PLC0415 - seconds of import

    base = portable_name(result.base.source)
    adapter = {
        "task_type": TASK,
        "adapter": ADAPTER,
        "tokenizer": TOKENIZER,
        "base_model": base,
        "base_sha256": result.base.sha256,
        "precision": result.precision,
        **{f"{name}_version": version for name, version in result.versions.items()},
    }
    metadata = {"base_model_name": base, "base_model_task": TASK}
    return Model(
        artifact_path="model",
        run_id=run_id,
        model_id=model_id,
        model_uuid=model_id,
        flavors={"peft": adapter},
        signature=_signature(),
        metadata=metadata,
    )


def _signature() -> ModelSignature:
    """Messages in, a text out, and the parameters of the endpoint's ``/score`` contract."""
    from mlflow.models import ModelSignature  # noqa: PLC0415
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema  # noqa: PLC0415
    from mlflow.types.schema import Array, Object, Property  # noqa: PLC0415

    text = DataType.string
    message = Object([Property("role", text), Property("content", text)])
    return ModelSignature(
        inputs=Schema([ColSpec(Array(message), name="messages")]),
        outputs=Schema([ColSpec(text, name="output")]),
        params=ParamSchema(
            [
                ParamSpec("temperature", DataType.double, 0.7),
                ParamSpec("top_p", DataType.double, 1.0),
                ParamSpec("max_new_tokens", DataType.long, 256),
            ]
        ),
    )
