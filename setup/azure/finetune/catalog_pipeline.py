"""Fine-tuning with the model catalog's own pipeline component: its inputs, checked, as a job.

Neither azure-ai-ml nor the service checks a value against the component's definition: a job with
``precision: "8"`` is accepted and fails after its machines have started. So it is checked here.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from setup.azure.client.session import AzureSession
from setup.azure.data.step import DataAsset
from setup.azure.facts.quota import cluster_gpus
from setup.azure.finetune.attempts import OUTPUT
from setup.common.errors import FixableError
from setup.recipe.azure import AzureRecipe

if TYPE_CHECKING:
    from azure.ai.ml.entities import Component, PipelineJob

_MODELS = ("mlflow_model_path", "pytorch_model_path", "huggingface_id")
_DATA = {"train_file_path": "train", "validation_file_path": "validation"}
_COMPUTE, _SERVERLESS_SKU = "compute_", "instance_type_"
_NODES, _GPUS = "num_nodes_finetune", "number_of_gpu_to_use_finetuning"
_LITERALS = ("string", "integer", "number", "boolean")
_MLFLOW = "mlflow_model"

Literal = str | int | float


def find_component(session: AzureSession) -> Component:
    """The component that the recipe names, from its registry."""
    finetune = session.recipe.finetune
    name, version = finetune.component, finetune.component_version
    registry = finetune.component_registry
    doing = f"asking registry {registry} for component {name} {version}"
    get: Callable[..., Component] = session.ml_registry(registry).components.get
    if component := session.look_for(doing, get, name, version):
        return component
    raise FixableError(
        f"registry {registry} has no component {name} {version}",
        "correct finetune.component and finetune.component_version",
    )


def component_inputs(
    session: AzureSession, component: Component, assets: Mapping[str, DataAsset]
) -> dict[str, Any]:
    """Return the component's inputs: the recipe's inputs, the cluster, one model, the data.

    The error names in one line everything that the component does not take.
    """
    recipe, declared = session.recipe, dict(component.inputs)
    inputs = _machines(session, declared) | dict(recipe.finetune.component_inputs())
    _refuse_own(recipe, declared)
    checked, wrong = _check(declared, inputs)
    references = _references(recipe, assets)
    missing = [name for name in references if name not in declared]
    wrong += [f"{name}: the component has no such input" for name in missing]
    wrong += _unset(declared, {*checked, *references})
    if wrong:
        what = f"component {component.name} {component.version} refuses finetune.inputs"
        raise FixableError(f"{what}: {'; '.join(wrong)}", "correct finetune.inputs in the recipe")
    return checked | references


def _refuse_own(recipe: AzureRecipe, declared: Mapping[str, Any]) -> None:
    """Refuse inputs that other fields of the recipe decide."""
    for name in recipe.finetune.inputs:
        field = ""
        if name.startswith((_COMPUTE, _SERVERLESS_SKU)):
            field = "finetune.compute"
        elif name in _MODELS:
            field = "model.source"
        elif name in _DATA or getattr(declared.get(name), "type", "string") not in _LITERALS:
            field = "data"
        if field:
            raise FixableError(
                f"finetune.inputs.{name} is not yours to set: {field} decides it",
                f"remove it from finetune.inputs, and set {field}",
            )


def _machines(session: AzureSession, declared: Mapping[str, Any]) -> dict[str, Literal]:
    """Cluster, nodes and GPUs for every step; the component's own SKUs are retired ones."""
    cluster = session.recipe.finetune.compute
    inputs: dict[str, Literal] = {
        name: cluster.name if name.startswith(_COMPUTE) else cluster.sku
        for name in declared
        if name.startswith((_COMPUTE, _SERVERLESS_SKU))
    }
    if _NODES in declared:
        inputs[_NODES] = cluster.nodes
    if _GPUS in declared:
        gpus = cluster_gpus(session)
        if not gpus:
            raise FixableError(
                f"{cluster.sku} has no GPU, which the component needs",
                "set finetune.compute.sku to one that has, or finetune.route to own",
            )
        inputs[_GPUS] = gpus
    return inputs


def _references(recipe: AzureRecipe, assets: Mapping[str, DataAsset]) -> dict[str, Any]:
    """One model, and the data."""
    from azure.ai.ml import Input

    data = {name: Input(type="uri_file", path=assets[key].reference) for name, key in _DATA.items()}
    if recipe.model.asset:
        return {"mlflow_model_path": Input(type=_MLFLOW, path=recipe.model.source), **data}
    return {"huggingface_id": recipe.model.huggingface_id, **data}


def _check(
    declared: Mapping[str, Any], values: Mapping[str, Literal]
) -> tuple[dict[str, Literal], list[str]]:
    """The values in the types that are declared, and what is wrong with the others."""
    checked: dict[str, Literal] = {}
    wrong = []
    for name, value in values.items():
        entry = declared.get(name)
        if entry is None:
            near = difflib.get_close_matches(name, declared, n=1)
            wrong.append(f"{name} is not one of its inputs" + (f", {near[0]} is" if near else ""))
            continue
        converted = _as_type(str(entry.type), value)
        if converted is None:
            wrong.append(f"{name} is {value!r}, not of type {entry.type}")
        elif problem := _outside(entry, converted):
            wrong.append(f"{name} is {value!r}, {problem}")
        else:
            checked[name] = converted
    return checked, wrong


def _as_type(kind: str, value: Literal) -> Literal | None:
    """``value`` as the declared type, None where it is none of that."""
    if kind == "string":
        return str(value)
    if kind == "boolean":
        return value if str(value).lower() in ("true", "false") else None
    try:
        number = float(value)
    except ValueError:
        return None
    if kind == "integer":
        return int(number) if number.is_integer() else None
    return number


def _outside(entry: Any, value: Literal) -> str:
    if entry.enum and str(value) not in map(str, entry.enum):
        return f"not one of {', '.join(map(str, entry.enum))}"
    if entry.min is not None and float(value) < float(entry.min):
        return f"less than {entry.min}"
    if entry.max is not None and float(value) > float(entry.max):
        return f"more than {entry.max}"
    return ""


def _unset(declared: Mapping[str, Any], names: set[str]) -> list[str]:
    return [
        f"{name} is required"
        for name, entry in declared.items()
        if name not in names and not entry.optional and entry.default is None
    ]


def pipeline_job(component: Component, inputs: Mapping[str, Any]) -> PipelineJob:
    """A pipeline of that one component, with its MLflow model as the output OUTPUT."""
    from azure.ai.ml import dsl

    models = [name for name, output in component.outputs.items() if output.type == _MLFLOW]
    if not models:
        raise FixableError(
            f"component {component.name} has no output of type {_MLFLOW}",
            "name another finetune.component",
        )

    def finetune_model() -> dict[str, Any]:
        finetuning = node(**inputs)
        return {OUTPUT: finetuning.outputs[models[0]]}

    node: Any = component
    job: Any = dsl.pipeline(finetune_model)()
    job.outputs[OUTPUT].type = _MLFLOW
    job.settings.continue_on_step_failure = False  # what failed cannot be mended by more hours
    return job  # type: ignore[no-any-return]
