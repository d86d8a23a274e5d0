"""Policies of a subscription, and the two questions about them that change nothing."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tests.azure.fake.messages import AzureError, Reply, Request
from tests.azure.fake.operations import Operations, headers_of
from tests.azure.fake.router import ARM, Routes
from tests.azure.fake.store import Id
from tests.azure.fake.templates import Deployed, Template

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

_PATH = "/{scope...}/providers/Microsoft.Resources/deployments/{name}"

routes = Routes()


@dataclass(frozen=True)
class Policy:
    """An assignment: ``deny`` a value of a property of a type, or ``modify`` it to the value.

    ``kind`` is a regular expression for the type; a denied value None is a property left out.
    """

    name: str
    effect: Literal["deny", "modify"]
    kind: str
    setting: str
    value: Any

    def meet(self, id_: Id, body: dict[str, Any]) -> None:
        """Deny or change what is about to be written.

        Raises:
            AzureError: 403 RequestDisallowedByPolicy, as ARM words it.
        """
        properties = body.get("properties")
        if not re.search(self.kind, id_.kind, re.IGNORECASE) or not isinstance(properties, dict):
            return
        if self.effect == "modify":
            properties[self.setting] = self.value
        elif properties.get(self.setting) == self.value:
            message = (
                f"Resource '{id_.name}' was disallowed by policy. Policy identifiers: "
                f'\'[{{"policyAssignment":{{"name":"{self.name}"}}}}]\'.'
            )
            error = AzureError(403, "RequestDisallowedByPolicy", message)
            info = {"policyDefinitionDisplayName": self.name, "policyAssignmentName": "corp-1"}
            error.information = [{"type": "PolicyViolation", "info": info}]
            raise error


@contextmanager
def _undone(azure: FakeAzure) -> Iterator[None]:
    """Let nothing of what the block does stay."""
    kept = (azure.store, azure.storage, azure.subscription, azure.operations)
    azure.store, azure.storage, azure.subscription = copy.deepcopy(kept[:3])
    azure.operations = Operations()  # a fault on demand waits for a real deployment
    try:
        yield
    finally:
        azure.store, azure.storage, azure.subscription, azure.operations = kept


def _tried(azure: FakeAzure, request: Request, scope: str) -> Deployed:
    """What a deployment would leave; that of a subscription makes a group and what is in it."""
    properties = request.body["properties"]
    id_ = Id(f"/{scope}/providers/Microsoft.Resources/deployments/asked")
    at = id_.scope
    if "/resourcegroups/" not in at.lower():
        group, nested = properties["template"]["resources"]
        at = f"{at}/resourceGroups/{group['name']}"
        azure.store.put(Id(at), {"location": group["location"], "tags": group["tags"]})
        properties = nested["properties"]
    azure.store.need(at)
    template = Template(azure, "asked", at, properties["template"], properties.get("parameters"))
    return template.deploy()


@routes.on("POST", ARM, f"{_PATH}/validate")
def validate(azure: FakeAzure, request: Request, scope: str, name: str) -> Reply:
    with _undone(azure):
        error = _tried(azure, request, scope).error
    if error is None:
        return Reply(body={"properties": {"provisioningState": "Succeeded"}})
    whole = AzureError(400, "InvalidTemplateDeployment", "The template deployment failed.")
    whole.details = [error]
    raise whole


@routes.on("POST", ARM, f"{_PATH}/whatIf")
def what_if(azure: FakeAzure, request: Request, scope: str, name: str) -> Reply:
    with _undone(azure):
        done = _tried(azure, request, scope)
        changes = [
            {"resourceId": made.id.text, "changeType": "Create", "after": copy.deepcopy(made.body)}
            for made in done.resources
        ]
    operation = azure.operations.start(request.path, lambda: None)
    operation.result = {"status": "Succeeded", "properties": {"changes": changes}}
    headers = headers_of(operation, request.api_version, "location")
    return Reply(202, headers=headers)
