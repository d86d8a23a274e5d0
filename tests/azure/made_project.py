"""A project in the fake with what the steps before upload and run leave."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from setup.azure.client.names import derive_names
from setup.common import flow_folder
from setup.recipe.azure import AzureRecipe
from setup.recipe.load import load_azure_recipe
from tests.azure.fake import FakeAzure
from tests.azure.fake.arm import write_resource
from tests.azure.fake.file_share import FOLDER
from tests.azure.fake.ready import add_workspace
from tests.azure.fake.store import Id
from tests.azure.fake.subscription import SUBSCRIPTION

GROUP, HUB, PROJECT = "finetune-phi", "phi-hub", "phi-project"
KEY = "the-scoring-key-that-nobody-may-see"
FLOWS = ["chat", "evaluate_answers"]
_IGNORED = shutil.ignore_patterns("__pycache__", ".promptflow")
_SHARE = "code-391ff5ac-6576-460f-ba4d-7e03433c68b6"
_STORAGE = "microsoft.storage/storageaccounts"


def make_project(azure: FakeAzure, *sets: str) -> AzureRecipe:
    """Hub and project of phi-azure, in a storage account that takes no keys; the recipe."""
    _forget_clients()
    hub = add_workspace(azure, HUB.replace("-", ""), GROUP, kind="Hub")
    account = azure.store.need(azure.store.need(hub).properties["storageAccount"])
    account.properties["allowSharedKeyAccess"] = False
    body = {
        "kind": "Project",
        "location": "eastus2",
        "properties": {"hubResourceId": hub, "systemDatastoresAuthMode": "identity"},
    }
    _write(azure, f"{_root()}/{PROJECT}", body)
    return load_azure_recipe("phi-azure", [*sets])


def copy_flows(folder: Path, whole: bool = False) -> Path:
    """The chat flow and one evaluation flow, or only the files that their graphs name: quicker."""
    for name in FLOWS:
        shutil.copytree(flow_folder.FLOWS / name, folder / name, ignore=_IGNORED)
        for part in (folder / name).iterdir():
            if part.is_dir() and not whole:
                shutil.rmtree(part)
    return folder


def add_connection(azure: FakeAzure, recipe: AzureRecipe) -> None:
    """What the step connect leaves in the project."""
    metadata = {
        "endpoint": "https://e/score",
        "azureml.flow.connection_type": "Custom",
        "azureml.flow.module": "promptflow.connections",
    }
    properties = {
        "category": "CustomKeys",
        "authType": "CustomKeys",
        "target": "_",
        "credentials": {"keys": {"key": KEY}},
        "metadata": metadata,
    }
    at = f"{_root()}/{PROJECT}/connections/{recipe.connection}"
    _write(azure, at, {"properties": properties})


def add_serving(azure: FakeAzure, recipe: AzureRecipe, model: str) -> None:
    """What the step deploy leaves: an endpoint whose traffic goes to a deployment of ``model``."""
    if azure.store.get(f"{_root()}/{recipe.azure.workspace}") is None:
        body = {"kind": "Default", "location": "eastus2", "properties": _stands_on(azure)}
        _write(azure, f"{_root()}/{recipe.azure.workspace}", body)
    name = derive_names(recipe, SUBSCRIPTION).endpoint
    endpoint = f"{_root()}/{recipe.azure.workspace}/onlineEndpoints/{name}"
    traffic = {recipe.endpoint.deployment: 100}
    with azure.lock:
        azure.store.put(Id(endpoint), {"properties": {"traffic": traffic}})
        at = Id(f"{endpoint}/deployments/{recipe.endpoint.deployment}")
        azure.store.put(at, {"properties": {"model": model}})


def _stands_on(azure: FakeAzure) -> dict[str, str]:
    hub = next(one for one in azure.store if one.body.get("kind") == "Hub")
    return {key: hub.properties[key] for key in ("storageAccount", "keyVault")}


def _root() -> str:
    group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    return f"{group}/providers/Microsoft.MachineLearningServices/workspaces"


def _write(azure: FakeAzure, id_: str, body: dict[str, Any]) -> None:
    with azure.lock:
        write_resource(azure, Id(id_), body)


def _forget_clients() -> None:
    """promptflow keeps one client for each workspace id as long as the process lives."""
    from promptflow.azure._restclient.service_caller_factory import (
        _FlowServiceCallerFactory,
    )

    _FlowServiceCallerFactory.caller_cache_by_workspace_id.clear()


def share_files(azure: FakeAzure) -> dict[str, bytes]:
    """The files of the project's share by path."""
    (account,) = (one.id.name for one in azure.store if one.kind == _STORAGE)
    files = azure.storage.container(account, _SHARE)
    return {path: file.content for path, file in files.items() if FOLDER not in file.metadata}
