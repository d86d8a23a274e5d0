"""The catalog: the ``azureml`` registry with its fine-tuning component and its models."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import yaml

from tests.azure.fake.contracts import SPECS
from tests.azure.fake.messages import AzureError, Reply, Request
from tests.azure.fake.router import Routes
from tests.azure.fake.store import CREATED
from tests.azure.fake.subscription import SUBSCRIPTION

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

DATA_PLANE = "*.api.azureml.ms"
REGISTRY = "*.experiments.azureml.net"
COMPONENT = ("chat_completion_pipeline", "0.0.82")
_PATH = "/mferp/managementfrontend/{scope...}/registries/{registry}"

# What is checked where the component's own definition is not at hand.
_ENUMS = {
    "apply_lora": ("true", "false"),
    "apply_deepspeed": ("true", "false"),
    "precision": ("32", "16"),
    "deepspeed_stage": ("2", "3"),
    "lr_scheduler_type": ("linear", "cosine", "constant"),
}
_STEPS = ("model_import", "preprocess", "finetune", "model_evaluation")
_NAMES = re.findall(
    r"\w+",
    """
    num_nodes_finetune number_of_gpu_to_use_finetuning huggingface_id pytorch_model_path
    mlflow_model_path batch_size max_seq_length train_file_path validation_file_path
    test_file_path lora_alpha lora_r lora_dropout num_train_epochs max_steps
    per_device_train_batch_size per_device_eval_batch_size learning_rate warmup_steps
    weight_decay gradient_accumulation_steps seed logging_steps eval_steps
    """,
)
_NAMES += [f"{what}_{step}" for what in ("compute", "instance_type") for step in _STEPS]

routes = Routes()


@dataclass
class Catalog:
    """Models of the registry by ``NAME/VERSION``: their stage and properties can be changed."""

    models: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            "Phi-4/8": {},
            "Phi-4-mini-instruct/1": {},
            "Phi-3-mini-4k-instruct/15": {"isArchived": True},
        }
    )


@cache
def component_spec() -> dict[str, Any]:
    """The fine-tuning component: the published definition, or a small one of ours."""
    file = SPECS / "azureml-assets" / "chat_completion_pipeline.yaml"
    if file.is_file():
        spec: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    else:
        inputs: dict[str, Any] = {name: {"type": "string", "optional": True} for name in _NAMES}
        for name, values in _ENUMS.items():
            inputs[name] = {"type": "string", "optional": True, "enum": list(values)}
        for name in ("train_file_path", "validation_file_path", "test_file_path"):
            inputs[name]["type"] = "uri_file"
        inputs["mlflow_model_path"]["type"] = "mlflow_model"
        inputs["pytorch_model_path"]["type"] = "custom_model"
        outputs = {"mlflow_model_folder": {"type": "mlflow_model"}}
        spec = {"name": COMPONENT[0], "version": COMPONENT[1], "inputs": inputs, "outputs": outputs}
    return {key: value for key, value in spec.items() if key != "jobs"} | {"type": "pipeline"}


@routes.on("GET", DATA_PLANE, "/registrymanagement/v1.0/registries/{name}/discovery")
def discover(azure: FakeAzure, request: Request, name: str) -> Reply:
    if name != "azureml":
        raise AzureError(404, "RegistryNotFound", f"The registry {name} could not be found.")
    return Reply(
        body={
            "registryName": name,
            "tenantId": azure.login.tenant,
            "primaryRegion": "eastus",
            "regions": ["eastus", "eastus2"],
            "subscriptionId": SUBSCRIPTION,
            "resourceGroup": "registries",
            "primaryRegionResourceProviderUri": "https://cert-eastus.experiments.azureml.net/",
        }
    )


def _id(request: Request) -> str:
    return request.path.removeprefix("/mferp/managementfrontend")


@routes.on("GET", REGISTRY, f"{_PATH}/components/{{name}}/versions/{{version}}")
def get_component(
    azure: FakeAzure, request: Request, registry: str, name: str, version: str, **_: str
) -> Reply:
    if (name, version) != COMPONENT:
        raise AzureError(404, "UserError", f"Component {name}:{version} not found in {registry}.")
    return Reply(body=_component(request, name, version))


def _component(request: Request, name: str, version: str) -> dict[str, Any]:
    spec = component_spec() | {"$schema": "", "name": name, "version": version}
    properties = {"componentSpec": spec, "isArchived": False, "isAnonymous": False}
    return {
        "id": f"azureml://registries/azureml/components/{name}/versions/{version}",
        "name": version,
        "type": "components",
        "properties": properties,
        "systemData": CREATED,
    }


def _model(request: Request, name: str, version: str, given: dict[str, Any]) -> dict[str, Any]:
    properties = {
        "modelType": "mlflow_model",
        "modelUri": f"azureml://registries/azureml/models/{name}/versions/{version}",
        "flavors": {"python_function": {"data": {}}},
        "isArchived": False,
        "isAnonymous": False,
        "tags": {},
        "properties": {},
    }
    id_ = f"azureml://registries/azureml/models/{name}/versions/{version}"
    return {
        "id": id_,
        "name": version,
        "type": "models",
        "properties": properties | given,
        "systemData": CREATED,
    }


@routes.on("GET", REGISTRY, f"{_PATH}/models/{{name}}/versions/{{version}}")
def get_model(
    azure: FakeAzure, request: Request, registry: str, name: str, version: str, **_: str
) -> Reply:
    key = f"{name}/{version}"
    if key not in azure.catalog.models:
        raise AzureError(404, "UserError", f"Model {name}:{version} not found in {registry}.")
    return Reply(body=_model(request, name, version, azure.catalog.models[key]))
