"""Deploys the infrastructure template in the fake and looks at what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from setup.azure.provision.infra import template, template_parameters
from tests.azure.fake import FakeAzure
from tests.azure.fake.store import Id
from tests.azure.fake.subscription import SUBSCRIPTION
from tests.azure.fake.supporting import ASSIGNMENT, ROLES
from tests.azure.fake.templates import Deployed, Template

GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg"
SPACE = "microsoft.machinelearningservices/workspaces"
ME = "99999999-9999-4999-8999-999999999999"
GIVEN: dict[str, Any] = {
    "names": {"workspace": "phi-ws", "hub": "phi-hub", "project": "phi-project", "storage": ""},
    "location": "swedencentral",
    "tags": {"purpose": "finetune-phi"},
    "computeSku": "Standard_NC24ads_A100_v4",
    "computeNodes": 1,
    "computeIdleSeconds": 120,
    "identityRole": "narrow",
    "principalId": ME,
    "principalType": "User",
    "recoverKeyVault": False,
}


def deploy(azure: FakeAzure, content: dict[str, Any] | None = None, **changed: Any) -> Deployed:
    """Deploy the template, or ``content``, with GIVEN; ``extra`` are parameters in ARM's form."""
    extra = changed.pop("extra", {})
    parameters = template_parameters(**(GIVEN | changed)) | extra
    done = Template(azure, "infra", GROUP, content or template(), parameters).deploy()
    if done.error:
        raise done.error
    return done


def kinds_of(azure: FakeAzure) -> list[str]:
    """The types of everything there is."""
    return sorted(str(resource.kind) for resource in azure.store)


def roles_of(azure: FakeAzure, principal: str) -> dict[str, str]:
    """The roles of a principal by name, each with the type or name of its scope."""
    names = {id_: name for name, id_ in ROLES.items()}
    return {
        names[one.properties["roleDefinitionId"].rpartition("/")[2]]: Id(one.id.scope).kind
        for one in azure.store
        if one.kind == ASSIGNMENT and one.properties["principalId"] == principal
    }


def identity_of(azure: FakeAzure) -> str:
    """The object id of the user-assigned identity."""
    return str(
        properties_of(azure, "microsoft.managedidentity/userassignedidentities")["principalId"]
    )


def properties_of(azure: FakeAzure, kind: str) -> dict[str, Any]:
    """The properties of the only resource of its type."""
    (found,) = [resource for resource in azure.store if resource.kind == kind]
    return found.properties


def resources_in(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The resources of a template, and of the templates nested in it."""
    for resource in content["resources"]:
        yield resource
        nested = resource.get("properties", {}).get("template")
        if nested:
            yield from resources_in(nested)


def assignments_in(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The role assignments of a template."""
    return [one for one in resources_in(content) if one["type"].lower() == ASSIGNMENT]
