"""The MLmodel file: what a version takes, what it returns, and what it is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from setup.local.registry.finished import ADAPTER, TOKENIZER, Result
from setup.paths import portable_name

if TYPE_CHECKING:
    from mlflow.models import Model, ModelSignature

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
