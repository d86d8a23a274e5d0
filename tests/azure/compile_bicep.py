"""Compiles the part of Bicep that setup/azure/provision/infra uses into an ARM template.

The Bicep compiler is on no package index for Python, so main.json is written by this:

    python -m tests.azure.compile_bicep

The syntax is read with tree-sitter's grammar; what is lowered follows the Bicep compiler, and
anything else is refused. https://learn.microsoft.com/azure/azure-resource-manager/bicep/
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tree_sitter import Node

from setup.azure.provision.infra import FOLDER
from tests.azure.bicep_expressions import Expressions, Resource
from tests.azure.bicep_syntax import BicepError, literal, properties, referred, statements, token

_SCHEMA = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"
_DEPLOYMENTS = "2024-03-01"  # a module is compiled into a nested deployment of this version
_LIMITS = {"allowed": "allowedValues", "minValue": "minValue", "maxValue": "maxValue"}

Json = dict[str, Any]


def compile_text(source: str, read: Callable[[str], str]) -> Json:
    """The ARM template of ``source``; ``read`` gives the text of a module by its path.

    Raises:
        BicepError: The source is wrong, or uses what is not supported.
    """
    return _File(source, read).template()


def compile_file(path: Path) -> Json:
    """The ARM template of a Bicep file."""
    return compile_text(_text(path), lambda name: _text(path.parent / name))


def formatted(template: Json) -> str:
    """A template as main.json has it: short lists in one line."""
    text = json.dumps(template, indent=2)
    return re.sub(r"\[\n\s+([^\[\]{}]{1,60}?)\n\s+\]", _in_one_line, text) + "\n"


def _in_one_line(found: re.Match[str]) -> str:
    return "[" + re.sub(r",\s+", ", ", found[1]) + "]"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


class _File:
    def __init__(self, source: str, read: Callable[[str], str]) -> None:
        self._read = read
        self._expressions = Expressions()
        self._value = self._expressions.value
        self._declared: dict[str, list[tuple[str, Node, list[Node]]]] = {}
        for node, decorators in statements(source):
            self._declare(node, decorators)
        self._name_resources()

    def template(self) -> Json:
        """The file as an ARM template."""
        made = [
            self._resource(resource)
            for resource in self._expressions.resources.values()
            if not resource.existing
        ]
        made += [self._module(node) for _, node, _ in self._of("module")]
        parts = {
            "parameters": {name: self._parameter(*rest) for name, *rest in self._of("parameter")},
            "variables": {
                name: self._value(node.named_children[1]) for name, node, _ in self._of("variable")
            },
            "resources": made,
            "outputs": {name: self._output(node) for name, node, _ in self._of("output")},
        }
        head = {"$schema": _SCHEMA, "contentVersion": "1.0.0.0"}
        return head | {name: part for name, part in parts.items() if part}

    def _of(self, kind: str) -> list[tuple[str, Any, Any]]:
        return self._declared.get(kind, [])

    def _declare(self, node: Node, decorators: list[Node]) -> None:
        """Names first: an expression may refer to what is declared below it."""
        kind, _, rest = node.type.partition("_")
        if node.type == "target_scope_assignment":
            if literal(node.named_children[0]) != "resourceGroup":
                raise BicepError("another target scope")
            return
        if rest != "declaration" or (decorators and kind != "parameter"):
            raise BicepError(f"{node.type} with {len(decorators)} decorators is not supported")
        name = token(node.named_children[0])
        if any(name == known for known, *_ in self._of(kind)):
            raise BicepError(f"{name} is declared twice")
        self._declared.setdefault(kind, []).append((name, node, decorators))
        if kind == "parameter":
            self._expressions.parameters.add(name)
        elif kind == "variable":
            self._expressions.variables.add(name)
        elif kind == "resource":
            self._expressions.resources[name] = _resource(node)
        elif kind not in ("module", "output"):
            raise BicepError(f"{node.type} is not supported")

    def _name_resources(self) -> None:
        resources = self._expressions.resources
        for resource in resources.values():
            chain = [resource]
            while "parent" in chain[0].body:
                chain.insert(0, resources[token(chain[0].body["parent"])])
            resource.names = [self._expressions.text(one.body["name"]) for one in chain]

    def _parameter(self, node: Node, decorators: list[Node]) -> Json:
        _, kind, *default = node.named_children
        content: Json = {"type": token(kind)}
        if default:
            content["defaultValue"] = self._value(default[0])
        for decorator in decorators:
            name, arguments = map(token, decorator.named_children[0].named_children)
            if name not in ("description", *_LIMITS):
                raise BicepError(f"the decorator {name}{arguments} is not supported")
            value = self._value(decorator.named_children[0].named_children[1].named_children[0])
            if name == "description":
                content["metadata"] = {"description": value}
            else:
                content[_LIMITS[name]] = value
        return content

    def _output(self, node: Node) -> Json:
        _, kind, value = node.named_children
        return {"type": token(kind), "value": self._value(value)}

    def _resource(self, resource: Resource) -> Json:
        body = dict(resource.body)
        name, parent, scope = body.pop("name"), body.pop("parent", None), body.pop("scope", None)
        made: Json = {"type": resource.kind, "apiVersion": resource.version}
        if resource.condition is not None:
            made["condition"] = self._value(resource.condition)
        if scope is not None:
            made["scope"] = self._expressions.resources[token(scope)].scope()
        slots = "/".join(f"{{{index}}}" for index in range(len(resource.names)))
        joined = f"[format('{slots}', {', '.join(resource.names)})]"
        made["name"] = self._value(name) if parent is None else joined
        made |= {key: self._value(value) for key, value in body.items()}
        parts = [*resource.body.values(), *([resource.condition] if resource.condition else [])]
        return made | self._depends(parts)

    def _module(self, node: Node) -> Json:
        path, body = literal(node.named_children[1]), properties(node.named_children[2])
        if set(body) != {"name", "params"}:
            raise BicepError(f"a module with {sorted(body)}")
        given = properties(body["params"])
        template = compile_text(self._read(path), self._read)
        declared = template.get("parameters", {})
        needed = {label for label, entry in declared.items() if "defaultValue" not in entry}
        if not needed <= set(given) <= set(declared):
            raise BicepError(f"{path} takes {sorted(declared)}, given are {sorted(given)}")
        made = {
            "type": "Microsoft.Resources/deployments",
            "apiVersion": _DEPLOYMENTS,
            "name": self._value(body["name"]),
            "properties": {
                "expressionEvaluationOptions": {"scope": "inner"},
                "mode": "Incremental",
                "parameters": {key: {"value": self._value(it)} for key, it in given.items()},
                "template": template,
            },
        }
        return made | self._depends(list(given.values()))

    def _depends(self, parts: list[Node]) -> Json:
        used = {name for part in parts for name in referred(part)}
        resources = sorted(self._expressions.resources.items())
        ids = [f"[{it.id()}]" for name, it in resources if name in used and not it.existing]
        return {"dependsOn": ids} if ids else {}


def _resource(node: Node) -> Resource:
    _, kind, *_, body = node.named_children
    condition = None
    if body.type == "if_statement":
        test, body = body.named_children
        condition = test.named_children[0]
    type_, _, version = literal(kind).partition("@")
    existing = any(child.type == "existing" for child in node.children)
    return Resource(type_, version, properties(body), condition, existing)


if __name__ == "__main__":
    compiled = formatted(compile_file(FOLDER / "main.bicep"))
    (FOLDER / "main.json").write_text(compiled, encoding="utf-8", newline="\n")
