"""A workspace in the fake with a registered model, as ``register`` leaves it."""

from __future__ import annotations

from typing import Any

import pytest

from setup.azure.client.session import AzureSession
from setup.azure.deploy import step as deploy
from setup.common.errors import FixableError
from setup.recipe.azure import AzureRecipe
from setup.recipe.load import load_azure_recipe
from tests.azure.fake import FakeAzure
from tests.azure.fake.arm import write_resource
from tests.azure.fake.messages import AzureError
from tests.azure.fake.ready import add_role, add_workspace
from tests.azure.fake.store import Id


def make_workspace(azure: FakeAzure, *sets: str, name: str = "phi-azure") -> AzureRecipe:
    """The workspace, identity, hub and project of a recipe, with version 1 of its model."""
    recipe = load_azure_recipe(name, list(sets))
    given = recipe.azure
    workspace = add_workspace(azure, given.workspace.replace("-", ""), given.resource_group)
    storage = azure.store.need(workspace).properties["storageAccount"]
    space = workspace.rpartition("/")[0]
    properties = azure.store.need(workspace).properties
    stands_on = {key: properties[key] for key in ("storageAccount", "keyVault")}
    add(azure, f"{space}/{given.workspace}", location="eastus2", properties=dict(stands_on))
    hub = f"{space}/{given.hub}"
    add(azure, hub, location="eastus2", kind="Hub", properties=dict(stands_on))
    project = {"hubResourceId": hub}
    add(azure, f"{space}/{given.project}", location="eastus2", kind="Project", properties=project)
    root = workspace.rpartition("/providers/")[0]
    identity = f"{root}/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
    mine = f"{identity}/{given.workspace}-identity"
    add(azure, mine, location="eastus2", properties={})
    principal = azure.store.need(mine).properties["principalId"]
    add_role(azure, storage, principal, "Storage Blob Data Reader")
    register(azure, recipe, "1")
    return recipe


def register(azure: FakeAzure, recipe: AzureRecipe, version: str) -> None:
    """Another version of the recipe's model."""
    path = "azureml://datastores/workspaceblobstore/paths/model"
    kind = "mlflow_model" if recipe.endpoint.kind == "mlflow" else "custom_model"
    at = f"{workspace_id(azure, recipe)}/models/{recipe.registry.model}/versions/{version}"
    add(azure, at, properties={"modelUri": path, "modelType": kind})


def workspace_id(azure: FakeAzure, recipe: AzureRecipe) -> str:
    """The workspace's resource id."""
    (found,) = [
        one.id.text
        for one in azure.store
        if one.kind.endswith("/workspaces") and one.id.name == recipe.azure.workspace
    ]
    return found


def add(azure: FakeAzure, id_: str, **body: Any) -> None:
    """A resource, without a request."""
    with azure.lock:
        write_resource(azure, Id(id_), body)


def endpoint_of(azure: FakeAzure) -> Any:
    """The one endpoint."""
    (found,) = [one for one in azure.store if one.kind.endswith("/onlineendpoints")]
    return found


def traffic_of(azure: FakeAzure) -> dict[str, int]:
    """Its traffic, without those that take none."""
    traffic: dict[str, int] = endpoint_of(azure).properties["traffic"]
    return {name: share for name, share in traffic.items() if share}


def deployments_of(azure: FakeAzure) -> dict[str, Any]:
    """Its deployments by name."""
    children = azure.store.children(f"{endpoint_of(azure).id.text}/deployments")
    return {one.id.name: one for one in children}


def endpoint_with(recipe: AzureRecipe, **changed: Any) -> AzureRecipe:
    """The recipe with other values in its section ``endpoint``."""
    return recipe.model_copy(update={"endpoint": recipe.endpoint.model_copy(update=changed)})


def writes(azure: FakeAzure) -> list[str]:
    """What was changed: methods and last names."""
    return [f"{one.method} {one.path.rpartition('/')[2]}" for one in azure.writes]


def busy(*_: object) -> str:
    """What a deployment answers whose clients keep it at work; to be given to ``azure.answer``."""
    raise AzureError(408, "RequestTimeout", "The request timed out in the queue.")


def fails(recipe: AzureRecipe) -> FixableError:
    """The one line with which ``deploy`` ends; without the key."""
    with pytest.raises(FixableError) as caught:
        deploy.run(AzureSession(recipe))
    assert "\n" not in str(caught.value)
    assert caught.value.fix
    return caught.value
