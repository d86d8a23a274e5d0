"""Carries out an ARM template: parameters, variables, resources in the order they depend.

Knows what our template uses, no more: https://learn.microsoft.com/azure/azure-resource-manager/templates/syntax
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.azure.fake.arm import hold_to, write_resource
from tests.azure.fake.expressions import Evaluator, invalid
from tests.azure.fake.messages import AzureError
from tests.azure.fake.store import Id, Resource
from tests.azure.fake.subscription import SUBSCRIPTION

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

_HEAD = ("name", "type", "apiVersion", "dependsOn", "condition", "scope")
NESTED = "microsoft.resources/deployments"
_TYPES = {"string": str, "int": int, "bool": bool, "object": dict}


@dataclass
class Deployed:
    """What a deployment left: the resources in order, outputs, and the error that stopped it."""

    resources: list[Resource] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    error: AzureError | None = None
    failed_at: Id | None = None


class Template:
    """One deployment of a template into ``scope``, a resource group.

    Raises:
        AzureError: 400, a parameter is missing, unknown or of the wrong type.
    """

    def __init__(
        self, azure: FakeAzure, name: str, scope: str, template: dict[str, Any], given: Any
    ) -> None:
        self._azure, self._name, self._scope, self._template = azure, name, scope, template
        self._parameters: dict[str, Any] = {}
        variables = template.get("variables", {})
        self._evaluator = Evaluator(
            {
                "parameters": lambda name: self._parameters[name],
                "variables": lambda name: self._evaluator.value(variables[name]),
                "reference": lambda id_, *_: azure.store.need(id_).properties,
                "resourceid": lambda kind, *names: _id(scope, kind, names),
                "subscriptionresourceid": lambda kind, *names: _id(
                    f"/subscriptions/{SUBSCRIPTION}", kind, names
                ),
                "resourcegroup": lambda: azure.store.need(scope).body,
                "subscription": lambda: {"tenantId": azure.login.tenant},
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
                if "defaultValue" not in entry:
                    raise invalid(f"the value for the template parameter {name!r} is not provided")
                value = self._evaluator.value(entry["defaultValue"])
            if type(value) is not _TYPES[entry["type"].lower()]:
                raise invalid(f"the parameter {name!r} is {value!r}, not of type {entry['type']}")
            if value not in entry.get("allowedValues", [value]):
                raise invalid(f"the parameter {name!r} is not of {entry['allowedValues']}")
            self._parameters[name] = value

    def deploy(self) -> Deployed:
        """Create the resources; those made before an error stay, as in Azure.

        Raises:
            AzureError: 400, the template's resources cannot be ordered; none was made.
        """
        done = Deployed(parameters=self._parameters)
        ordered = self._ordered()
        try:
            for entry in ordered:
                done.failed_at = Id(entry["_id"])
                self._deploy_one(entry, done)
            done.failed_at = None
            for name, entry in (self._template.get("outputs") or {}).items():
                value = self._evaluator.value(entry["value"])
                done.outputs[name] = {"type": entry["type"], "value": value}
        except AzureError as error:
            done.error = error
        return done

    def _ordered(self) -> list[dict[str, Any]]:
        """The resources with id, condition and dependencies evaluated, the rest not yet."""
        waiting = []
        for entry in self._template["resources"]:
            head = {key: self._evaluator.value(entry[key]) for key in _HEAD if key in entry}
            extended = f"{self._scope}/providers/{head['scope']}" if "scope" in head else ""
            # TYPE/NAME in this scope
            id_ = _id(extended or self._scope, head["type"], head["name"].split("/"))
            waiting.append(entry | head | {"_id": id_})
        ordered: list[dict[str, Any]] = []
        while waiting:
            keys = {entry["_id"].lower() for entry in waiting}
            ready = [
                entry
                for entry in waiting
                if not any(key.lower() in keys for key in entry.get("dependsOn", []))
            ]
            if not ready:
                raise invalid(f"circular dependency among {sorted(keys)}")
            ordered += ready
            waiting = [entry for entry in waiting if entry not in ready]
        return ordered

    def _deploy_one(self, entry: dict[str, Any], done: Deployed) -> None:
        if not entry.get("condition", True):
            return
        id_ = Id(entry["_id"])
        content = {key: v for key, v in entry.items() if key not in _HEAD and key != "_id"}
        if id_.kind.lower() == NESTED:
            self._deploy_nested(id_, content["properties"], done)
            return
        body = self._evaluator.value(content)
        checked = self._azure.contracts.check_resource(id_.kind, entry["apiVersion"], body)
        hold_to(self._azure, checked, f"{id_.kind}@{entry['apiVersion']}")
        if error := self._azure.operations.failure_of(id_.text):
            raise error
        resource, _ = write_resource(self._azure, id_, copy.deepcopy(body))
        done.resources.append(resource)

    def _deploy_nested(self, id_: Id, properties: dict[str, Any], done: Deployed) -> None:
        given = self._evaluator.value(properties.get("parameters") or {})
        nested = Template(self._azure, id_.name, id_.scope, properties["template"], given).deploy()
        done.resources += nested.resources
        body = {"properties": {"outputs": nested.outputs, "mode": properties.get("mode")}}
        write_resource(self._azure, id_, body)
        if nested.error:
            raise nested.error


def _id(scope: str, kind: str, names: list[str] | tuple[str, ...]) -> str:
    space, *types = kind.split("/")
    pairs = [part for pair in zip(types, names, strict=True) for part in pair]
    return "/".join([f"{scope}/providers", space, *pairs])
