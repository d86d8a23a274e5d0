"""Holds a resource against Azure's published Bicep types.

A types.json is a list of types that refer to each other as ``#/index``:
https://github.com/Azure/bicep-types. Stricter than Azure: names are compared with their case, and
a read-only property in a request is a violation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

REQUIRED, READ_ONLY = 1, 2
# What the envelope of every resource has; a request names them in its URL.
ENVELOPE = ("id", "name", "type", "apiVersion")

Types = list[dict[str, Any]]


def resource_types(types: Types) -> dict[str, dict[str, str]]:
    """The resources of a types.json: lower-case ``type@version`` to the reference of its body."""
    found = [entry for entry in types if entry["$type"] == "ResourceType"]
    return {entry["name"].lower(): entry["body"] for entry in found}


def check_resource(types: Types, body: dict[str, str], value: Any) -> list[str]:
    """What is wrong with a resource, each as ``path: reason``."""
    if not isinstance(value, dict):
        return [f"body: {_kind(value)} where an object is expected"]
    content = {key: part for key, part in value.items() if key not in ENVELOPE}
    checker = _Checker(types)
    return [error for error in checker.check(body, content, "") if not _of_envelope(error)]


def _of_envelope(error: str) -> bool:
    return error.removesuffix(": missing, but required") in ENVELOPE


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__


class _Checker:
    def __init__(self, types: Types) -> None:
        self._types = types

    def check(self, ref: dict[str, str], value: Any, path: str) -> Iterator[str]:
        """What is wrong with ``value`` as the type that ``ref`` names."""
        kind = self._types[int(ref["$ref"].removeprefix("#/"))]
        yield from _CHECKS[kind["$type"]](self, kind, value, path)

    def anything(self, *_: Any) -> Iterator[str]:
        yield from ()

    def nothing(self, _: dict[str, Any], value: Any, path: str) -> Iterator[str]:
        if value is not None:
            yield f"{path}: {_kind(value)} where null is expected"

    def string(self, kind: dict[str, Any], value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, str):
            yield f"{path}: {_kind(value)} where a string is expected"
        elif len(value) < kind.get("minLength", 0) or len(value) > kind.get("maxLength", 1 << 30):
            yield f"{path}: {len(value)} characters"
        elif "pattern" in kind and not re.search(kind["pattern"], value):
            yield f"{path}: {value!r} does not match {kind['pattern']}"

    def literal(self, kind: dict[str, Any], value: Any, path: str) -> Iterator[str]:
        if value != kind["value"]:
            yield f"{path}: {value!r} is not {kind['value']!r}"

    def integer(self, kind: dict[str, Any], value: Any, path: str) -> Iterator[str]:
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield f"{path}: {_kind(value)} where a number is expected"
        elif not kind.get("minValue", value) <= value <= kind.get("maxValue", value):
            yield f"{path}: {value} is out of range"

    def boolean(self, _: dict[str, Any], value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, bool):
            yield f"{path}: {_kind(value)} where a boolean is expected"

    def array(self, kind: dict[str, Any], value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, list):
            yield f"{path}: {_kind(value)} where a list is expected"
            return
        for index, item in enumerate(value):
            yield from self.check(kind["itemType"], item, f"{path}[{index}]")

    def union(self, kind: dict[str, Any], value: Any, path: str) -> Iterator[str]:
        tried = [list(self.check(element, value, path)) for element in kind["elements"]]
        if all(tried):
            elements = [
                self._types[int(ref["$ref"].removeprefix("#/"))] for ref in kind["elements"]
            ]
            allowed = ", ".join(str(element.get("value", "…")) for element in elements)
            yield f"{path}: {value!r} is none of: {allowed}"

    def object(self, kind: dict[str, Any], value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{path}: {_kind(value)} where an object is expected"
            return
        yield from self._properties(kind.get("properties", {}), kind, value, path)

    def discriminated(self, kind: dict[str, Any], value: Any, path: str) -> Iterator[str]:
        name = kind["discriminator"]
        if not isinstance(value, dict):
            yield f"{path}: {_kind(value)} where an object is expected"
            return
        if value.get(name) not in kind["elements"]:
            allowed = ", ".join(kind["elements"])
            yield f"{_join(path, name)}: {value.get(name)!r} is none of: {allowed}"
            return
        ref = kind["elements"][value[name]]["$ref"]
        element = self._types[int(ref.removeprefix("#/"))]
        properties = kind["baseProperties"] | element.get("properties", {})
        yield from self._properties(properties, element, value, path)

    def _properties(
        self, declared: dict[str, Any], kind: dict[str, Any], value: dict[str, Any], path: str
    ) -> Iterator[str]:
        for name, entry in declared.items():
            if entry["flags"] & REQUIRED and value.get(name) is None:
                yield f"{_join(path, name)}: missing, but required"
        for name, item in value.items():
            where = _join(path, name)
            if name in declared:
                if declared[name]["flags"] & READ_ONLY:
                    yield f"{where}: read-only"
                elif item is not None:
                    yield from self.check(declared[name]["type"], item, where)
            elif "additionalProperties" in kind:
                yield from self.check(kind["additionalProperties"], item, where)
            else:
                yield f"{where}: not declared"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


_CHECKS = {
    "AnyType": _Checker.anything,
    "NullType": _Checker.nothing,
    "StringType": _Checker.string,
    "StringLiteralType": _Checker.literal,
    "IntegerType": _Checker.integer,
    "BooleanType": _Checker.boolean,
    "ArrayType": _Checker.array,
    "UnionType": _Checker.union,
    "ObjectType": _Checker.object,
    "DiscriminatedObjectType": _Checker.discriminated,
}
