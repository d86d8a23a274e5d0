"""Holds a request body against Azure's published OpenAPI (Swagger 2.0) files.

Knows what Microsoft adds: ``x-ms-discriminator-value``, ``x-nullable``, enumerations that are open
(``modelAsString``). What is not declared is a violation, and so is what is read-only.
https://azure.github.io/autorest/extensions/
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

_KINDS = {"string": str, "boolean": bool, "integer": int, "number": (int, float), "array": list}
_ENVELOPE = ("id", "name", "type")


class Node(NamedTuple):
    """A schema and the file it stands in, against which its references are read."""

    file: Path
    schema: dict[str, Any]


@cache
def load(file: Path) -> dict[str, Any]:
    """The content of one OpenAPI file."""
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def resolve(node: Node) -> Node:
    """The node itself, or what its ``$ref`` stands for."""
    while "$ref" in node.schema:
        place, _, pointer = node.schema["$ref"].partition("#/")
        file = (node.file.parent / place).resolve() if place else node.file
        schema: Any = load(file)
        for part in pointer.split("/"):
            schema = schema[part]
        node = Node(file, schema)
    return node


@cache
def _paths(file: Path) -> list[tuple[re.Pattern[str], str]]:
    """The paths of a file as patterns, the most literal first."""
    paths = sorted(load(file).get("paths", {}), key=lambda path: (path.count("{"), -len(path)))
    return [(_pattern(path), path) for path in paths]


def _pattern(path: str) -> re.Pattern[str]:
    """A path template as a pattern; a scope stands for several segments."""
    wide = re.sub(r"\\{(scope|resourceId)\\}", ".+", re.escape(path))
    return re.compile(re.sub(r"\\{\w+\\}", "[^/]+", wide).replace("/.+", "/?.+"), re.IGNORECASE)


def body_schema(file: Path, method: str, path: str) -> Node | None:
    """The schema of the body of one operation, None where the file has no such operation."""
    for pattern, template in _paths(file):
        operations = load(file)["paths"][template]
        if method.lower() in operations and pattern.fullmatch(path):
            for parameter in operations[method.lower()].get("parameters", []):
                found = resolve(Node(file, parameter))
                if found.schema.get("in") == "body":
                    return resolve(Node(found.file, found.schema["schema"]))
            return Node(file, {"type": "object", "properties": {}, "x-nullable": True})
    return None


def check_body(node: Node, value: Any) -> list[str]:
    """What is wrong with a body, each as ``path: reason``."""
    if isinstance(value, dict):
        value = {key: part for key, part in value.items() if key not in _ENVELOPE}
    return list(_check(node, value, ""))


def _check(node: Node, value: Any, path: str) -> Iterator[str]:
    node = resolve(node)
    schema = node.schema
    kind = schema.get("type") or ("object" if _all_properties(node) else "")
    if value is None:
        if not schema.get("x-nullable"):
            yield f"{path}: null where {kind or 'a value'} is expected"
    elif kind == "object":
        yield from _check_object(_specific(node, value), value, path)
    elif kind in _KINDS:
        yield from _check_plain(node, kind, value, path)


def _check_plain(node: Node, kind: str, value: Any, path: str) -> Iterator[str]:
    schema = node.schema
    wrong = kind != "boolean" and isinstance(value, bool)
    if wrong or not isinstance(value, _KINDS[kind]):  # type: ignore[arg-type]
        yield f"{path}: {type(value).__name__} where {kind} is expected"
        return
    if kind == "array":
        for index, item in enumerate(value):
            yield from _check(Node(node.file, schema["items"]), item, f"{path}[{index}]")
    closed = not schema.get("x-ms-enum", {}).get("modelAsString", False)
    if closed and "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is none of: {', '.join(map(str, schema['enum']))}"
    if kind == "string" and "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{path}: {value!r} does not match {schema['pattern']}"


def _check_object(node: Node, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: {type(value).__name__} where an object is expected"
        return
    declared = _all_properties(node)
    for name in _required(node):
        if name in declared and name not in value and not declared[name].schema.get("readOnly"):
            yield f"{_join(path, name)}: missing, but required"
    for name, item in value.items():
        where = _join(path, name)
        if name in declared:
            if declared[name].schema.get("readOnly"):
                yield f"{where}: read-only"
            else:
                yield from _check(declared[name], item, where)
        elif (more := _additional(node)) is None:
            yield f"{where}: not declared"
        elif more.schema:
            yield from _check(more, item, where)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _bases(node: Node) -> list[Node]:
    return [resolve(Node(node.file, part)) for part in node.schema.get("allOf", [])]


def _all_properties(node: Node) -> dict[str, Node]:
    found: dict[str, Node] = {}
    for base in _bases(node):
        found |= _all_properties(base)
    own = node.schema.get("properties", {})
    return found | {name: Node(node.file, schema) for name, schema in own.items()}


def _required(node: Node) -> set[str]:
    return set(node.schema.get("required", [])).union(*map(_required, _bases(node)))


def _additional(node: Node) -> Node | None:
    """The schema of undeclared properties; None where there may be none."""
    more = node.schema.get("additionalProperties")
    if isinstance(more, dict):
        return Node(node.file, more)
    if more or not (_all_properties(node) or _bases(node) or node.schema.get("properties") == {}):
        return Node(node.file, {})
    return next((found for base in _bases(node) if (found := _additional(base)) is not None), None)


def _discriminator(node: Node) -> str:
    own = node.schema.get("discriminator", "")
    return own or next((found for base in _bases(node) if (found := _discriminator(base))), "")


@cache
def _children(file: Path) -> dict[int, list[tuple[str, dict[str, Any]]]]:
    """Schemas of a file by the identity of the schema they extend directly."""
    found: dict[int, list[tuple[str, dict[str, Any]]]] = {}
    for name, schema in load(file).get("definitions", {}).items():
        for base in _bases(Node(file, schema)):
            found.setdefault(id(base.schema), []).append((name, schema))
    return found


def _specific(node: Node, value: Any) -> Node:
    """The schema that the value's discriminator names, or the node itself."""
    name = _discriminator(node)
    if not name or not isinstance(value, dict):
        return node
    for child, schema in _children(node.file).get(id(node.schema), []):
        if schema.get("x-ms-discriminator-value", child) == value.get(name):
            return _specific(Node(node.file, schema), value)
        deeper = _specific(Node(node.file, schema), value)
        if deeper.schema is not schema:
            return deeper
    return node
