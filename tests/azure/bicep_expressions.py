"""Lowers Bicep expressions into the expressions of ARM templates, as the Bicep compiler does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tree_sitter import Node

from tests.azure.bicep_syntax import BicepError, interpolated, literal, pairs, plain, token

_OPERATORS = {"==": "equals({})", "!=": "not(equals({}))", "&&": "and({})", "||": "or({})"}
_CONSTANTS = {"true": True, "false": False, "null": None}


@dataclass
class Resource:
    """A declared resource; ``names`` are expressions, its parent's first."""

    kind: str
    version: str
    body: dict[str, Node]
    condition: Node | None = None
    existing: bool = False
    names: list[str] = field(default_factory=list)

    def id(self) -> str:
        """The expression of its resource id."""
        return f"resourceId('{self.kind}', {', '.join(self.names)})"

    def scope(self) -> str:
        """How an extension resource names it as its scope."""
        space, *types = self.kind.split("/")
        slots = "/".join(f"{kind}/{{{index}}}" for index, kind in enumerate(types))
        return f"[format('{space}/{slots}', {', '.join(self.names)})]"


class Expressions:
    """Lowers the expressions of one file; the three lists of names are filled as it is read."""

    def __init__(self) -> None:
        self.parameters: set[str] = set()
        self.variables: set[str] = set()
        self.resources: dict[str, Resource] = {}
        self._lower: dict[str, Callable[[Node], str]] = {
            "string": self._string,
            "number": token,
            "boolean": lambda node: f"{token(node)}()",
            "null": lambda node: f"{token(node)}()",
            "identifier": self._identifier,
            "member_expression": self._member,
            "call_expression": self._call,
            "parenthesized_expression": lambda node: self.text(node.named_children[0]),
            "unary_expression": self._unary,
            "binary_expression": self._binary,
            "ternary_expression": lambda node: f"if({self._all(node.named_children)})",
        }

    def value(self, node: Node) -> Any:
        """A node as JSON: literals as they are, everything else as an expression in brackets."""
        if node.type == "object":
            return {self._key(key): self.value(value) for key, value in pairs(node)}
        if node.type == "array":
            return [self.value(child) for child in node.named_children]
        if node.type == "number":
            return int(token(node))
        if node.type in ("boolean", "null"):
            return _CONSTANTS[token(node)]
        if node.type == "string" and not interpolated(node):
            text = literal(node)
            return f"[{text}" if text.startswith("[") else text
        return f"[{self.text(node)}]"

    def text(self, node: Node) -> str:
        """A node in the language of template expressions.

        Raises:
            BicepError: A kind of expression that is not supported, or an unknown name.
        """
        if node.type not in self._lower:
            raise BicepError(f"{node.type} inside an expression: {token(node)}")
        return self._lower[node.type](node)

    def _key(self, node: Node) -> str:
        return str(self.value(node)) if node.type == "string" else token(node)

    def _all(self, nodes: list[Node]) -> str:
        return ", ".join(self.text(node) for node in nodes)

    def _string(self, node: Node) -> str:
        if not interpolated(node):
            return "'" + literal(node).replace("'", "''") + "'"
        pattern = ""
        values: list[Node] = []
        for part in node.named_children:
            if part.type == "interpolation":
                pattern += f"{{{len(values)}}}"
                values.append(part.named_children[0])
            else:
                pattern += plain(part).replace("{", "{{").replace("}", "}}")
        return f"format('{pattern}', {self._all(values)})"

    def _identifier(self, node: Node) -> str:
        name = token(node)
        if name in self.parameters:
            return f"parameters('{name}')"
        if name in self.variables:
            return f"variables('{name}')"
        raise BicepError(f"{name} is not declared, or is a resource as a whole")

    def _member(self, node: Node) -> str:
        of, name = node.named_children
        resource = self.resources.get(token(of)) if of.type == "identifier" else None
        if resource is None:
            return f"{self.text(of)}.{token(name)}"
        lowered = {
            "id": resource.id(),
            "name": resource.names[-1],
            "properties": f"reference({resource.id()}, '{resource.version}')",
        }
        if token(name) not in lowered:
            raise BicepError(f"{token(node)} is not supported")
        return lowered[token(name)]

    def _call(self, node: Node) -> str:
        name, arguments = node.named_children
        return f"{token(name)}({self._all(arguments.named_children)})"

    def _unary(self, node: Node) -> str:
        if node.children[0].type != "!":
            raise BicepError(f"{token(node)} is not supported")
        return f"not({self.text(node.named_children[0])})"

    def _binary(self, node: Node) -> str:
        operator = node.children[1].type
        if operator not in _OPERATORS:
            raise BicepError(f"{operator} is not supported")
        return _OPERATORS[operator].format(self._all(node.named_children))
