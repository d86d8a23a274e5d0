"""Carries out an ARM template: parameters, variables, resources in the order they depend.

https://learn.microsoft.com/azure/azure-resource-manager/templates/syntax
"""

from __future__ import annotations

import copy
import time
import uuid
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.azure.fake.arm import hold_to, write_resource
from tests.azure.fake.expressions import Evaluator, invalid
from tests.azure.fake.layout import (
    environment,
    extension_resource_id,
    flat,
    id_of,
    keys_of,
    of_type,
    resource_id,
    subscription_function,
    subscription_resource_id,
)
from tests.azure.fake.messages import AzureError, Request
from tests.azure.fake.router import ARM
from tests.azure.fake.store import Id, Resource

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

_HEAD = (
    "name",
    "type",
    "apiVersion",
    "dependsOn",
    "condition",
    "scope",
    "resourceGroup",
    "subscriptionId",
)
_ENVELOPE = (*_HEAD, "copy", "comments", "resources", "existing", "import")
NESTED = "microsoft.resources/deployments"


@dataclass
class Deployed:
    """What a deployment left: the resources in order, outputs, and the error that stopped it."""

    resources: list[Resource] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    error: AzureError | None = None
    failed_at: Id | None = None


class Template:
    """One deployment of a template into ``scope``, a resource group or the subscription.

    Raises:
        AzureError: 400, a parameter is missing, unknown or of the wrong type.
    """

    def __init__(
        self, azure: FakeAzure, name: str, scope: str, template: dict[str, Any], given: Any
    ) -> None:
        self._azure, self._name, self._scope, self._template = azure, name, scope, template
        self._ids: dict[str, str] = {}
        self._variables: dict[str, Any] = {}
        self._parameters: dict[str, Any] = {}
        self._evaluator = Evaluator(
            {
                "parameters": self._parameter,
                "variables": self._variable,
                "reference": self._reference,
                "resourceid": partial(resource_id, scope),
                "subscriptionresourceid": subscription_resource_id,
                "extensionresourceid": extension_resource_id,
                "resourcegroup": self._resource_group,
                "subscription": subscription_function(azure),
                "tenant": lambda: {"tenantId": azure.login.tenant},
                "deployment": lambda: {"name": name, "properties": {"template": template}},
                "environment": environment,
                "newguid": lambda: str(uuid.uuid4()),
                "utcnow": lambda *_: time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
                "listkeys": lambda id_, *_: self._list(id_, "listKeys"),
                "listcredentials": lambda id_, *_: self._list(id_, "listCredentials"),
            }
        )
        self._bind(given or {})

    def _bind(self, given: dict[str, Any]) -> None:
        declared = self._template.get("parameters") or {}
        if unknown := set(given) - set(declared):
            raise invalid(f"parameters {sorted(unknown)} are not declared in the template")
        for name, entry in declared.items():
            value = (given.get(name) or {}).get("value")
            if value is None:
                if "defaultValue" not in entry and not entry.get("nullable"):
                    raise invalid(f"the value for the template parameter {name!r} is not provided")
                value = self._evaluator.value(entry.get("defaultValue"))
            self._parameters[name] = of_type(name, entry, value)

    def deploy(self) -> Deployed:
        """Create the resources; those made before an error stay, as in Azure.

        Raises:
            AzureError: 400, the template's resources cannot be ordered; none was made.
        """
        done = Deployed(parameters=self._parameters)
        ordered = self._ordered()
        try:
            for content in ordered:
                done.failed_at = Id(content["_id"])
                self._deploy_one(content, done)
            done.failed_at = None
            for name, entry in (self._template.get("outputs") or {}).items():
                if self._evaluator.value(entry.get("condition", True)):
                    value = self._evaluator.value(entry["value"])
                    done.outputs[name] = {"type": entry["type"], "value": value}
        except AzureError as error:
            done.error = error
        return done

    def described(self) -> dict[str, Any]:
        """What the deployment would create, in order.

        Raises:
            AzureError: 400, the template's resources cannot be ordered.
        """
        wanted = [entry for entry in self._ordered() if entry.get("condition", True)]
        return {"validatedResources": [{"id": entry["_id"]} for entry in wanted]}

    def _resources(self) -> list[dict[str, Any]]:
        declared = self._template.get("resources") or []
        if isinstance(declared, dict):  # languageVersion 2.0: by symbolic name
            declared = [entry | {"_symbol": name} for name, entry in declared.items()]
        found: list[dict[str, Any]] = []
        for entry in flat(declared, None):
            loop = entry.get("copy")
            if loop is None:
                found.append(self._headed(entry))
                continue
            count = self._evaluator.value(loop["count"])
            whole = {key: value for key, value in entry.items() if key != "copy"}
            for index in range(count):
                found.append(self._headed(whole | {"_loop": (loop["name"], index)}))
        return [entry for entry in found if not entry.get("existing")]

    def _headed(self, entry: dict[str, Any]) -> dict[str, Any]:
        """The entry with its id, condition and dependencies evaluated, the rest not yet."""
        with self._evaluator.loop(entry.get("_loop")):
            value = self._evaluator.value
            head = {key: value(entry[key]) for key in _HEAD if key in entry}
        head["_id"] = id_of(self._scope, head)
        if "_symbol" in entry:
            self._ids[entry["_symbol"]] = head["_id"]
        return entry | head

    def _ordered(self) -> list[dict[str, Any]]:
        waiting = self._resources()
        names = {key for entry in waiting for key in keys_of(entry)}
        ordered: list[dict[str, Any]] = []
        while waiting:
            keys = {key for entry in waiting for key in keys_of(entry)}
            ready = [
                e for e in waiting if not any(k.lower() in keys for k in e.get("dependsOn", []))
            ]
            if not ready:
                raise invalid(f"circular dependency among {sorted(keys)}")
            ordered += ready
            waiting = [entry for entry in waiting if entry not in ready]
        for entry in ordered:
            for key in entry.get("dependsOn", []):
                if key.lower() not in names and entry.get("condition", True):
                    raise invalid(f"the resource {key!r} is not defined in the template")
        return ordered

    def _deploy_one(self, entry: dict[str, Any], done: Deployed) -> None:
        if not entry.get("condition", True):
            return
        id_ = Id(entry["_id"])
        content = {key: v for key, v in entry.items() if key not in _ENVELOPE and key[0] != "_"}
        if id_.kind.lower() == NESTED:
            with self._evaluator.loop(entry.get("_loop")):
                self._deploy_nested(id_, content, done)
            return
        with self._evaluator.loop(entry.get("_loop")):
            body = self._evaluator.value(content)
        checked = self._azure.contracts.check_resource(id_.kind, entry["apiVersion"], body)
        hold_to(self._azure, checked, f"{id_.kind}@{entry['apiVersion']}")
        if error := self._azure.operations.failure_of(id_.text):
            raise error
        resource, _ = write_resource(self._azure, id_, copy.deepcopy(body))
        done.resources.append(resource)

    def _deploy_nested(self, id_: Id, content: dict[str, Any], done: Deployed) -> None:
        properties = content["properties"]
        options = properties.get("expressionEvaluationOptions") or {}
        template = properties["template"]
        if options.get("scope", "outer").lower() == "outer":
            template = self._evaluator.value(template)
        given = self._evaluator.value(properties.get("parameters") or {})
        nested = Template(self._azure, id_.name, id_.scope, template, given).deploy()
        done.resources += nested.resources
        body = {"properties": {"outputs": nested.outputs, "mode": properties.get("mode")}}
        write_resource(self._azure, id_, body)
        if nested.error:
            raise nested.error

    def _parameter(self, name: str) -> Any:
        if name not in self._parameters:
            raise invalid(f"the template parameter {name!r} is not found")
        return self._parameters[name]

    def _variable(self, name: str) -> Any:
        declared = self._template.get("variables") or {}
        if "copy" in declared:
            declared = declared | {loop["name"]: {"copy": [loop]} for loop in declared["copy"]}
        if name not in declared:
            raise invalid(f"the template variable {name!r} is not found")
        if name not in self._variables:
            value = self._evaluator.value(declared[name])
            looped = isinstance(declared[name], dict) and list(declared[name]) == ["copy"]
            self._variables[name] = value[name] if looped else value
        return self._variables[name]

    def _reference(self, of: str, _: str = "", full: str = "") -> Any:
        id_ = of if of.startswith("/") else self._ids.get(of) or self._named(of)
        resource = self._azure.store.need(id_)
        return resource.body if full.lower() == "full" else resource.properties

    def _named(self, name: str) -> str:
        for entry in self._resources():
            if name.lower() in keys_of(entry):
                return str(entry["_id"])
        raise invalid(f"the resource {name!r} is not defined in the template")

    def _resource_group(self) -> dict[str, Any]:
        return self._azure.store.need(self._scope).body

    def _list(self, id_: str, action: str) -> Any:
        request = Request("POST", ARM, f"{id_}/{action}")
        return self._azure.dispatch(request).body
