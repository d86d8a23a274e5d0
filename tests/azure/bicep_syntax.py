"""Bicep as tree-sitter's grammar reads it: declarations, objects, strings."""

from __future__ import annotations

from collections.abc import Iterator

import tree_sitter_bicep
from tree_sitter import Language, Node, Parser

_PARSER = Parser(Language(tree_sitter_bicep.language()))


class BicepError(ValueError):
    """Not Bicep, or not the part of it that is compiled here."""


def statements(source: str) -> Iterator[tuple[Node, list[Node]]]:
    """The declarations of a file in order, each with its decorators.

    Raises:
        BicepError: A syntax error, with its line.
    """
    root = _PARSER.parse(source.encode()).root_node
    if root.has_error:
        raise BicepError(f"syntax error: {_first_error(root)}")
    decorators: list[Node] = []
    for node in root.named_children:
        if node.type == "decorators":
            decorators = node.named_children
        elif node.type != "comment":
            yield node, decorators
            decorators = []


def token(node: Node) -> str:
    """The text of a node."""
    return (node.text or b"").decode()


def interpolated(node: Node) -> bool:
    """Whether a string has a ``${…}`` in it."""
    return any(part.type == "interpolation" for part in node.named_children)


def plain(node: Node) -> str:
    """A part of a string that stands for itself."""
    if node.type != "string_content":
        raise BicepError(f"{node.type} in a string: {token(node)}")
    return token(node)


def literal(node: Node) -> str:
    """The content of a string without ``${…}``."""
    if node.type != "string" or interpolated(node):
        raise BicepError(f"a plain string is expected, not {token(node)}")
    return "".join(plain(part) for part in node.named_children)


def pairs(node: Node) -> Iterator[tuple[Node, Node]]:
    """The properties of an object: key and value."""
    for child in node.named_children:
        if child.type == "object_property":
            key, value = (part for part in child.named_children if part.type != "comment")
            yield key, value
        elif child.type != "comment":
            raise BicepError(f"{child.type} in an object")


def properties(node: Node) -> dict[str, Node]:
    """The properties of an object by name."""
    return {token(key): value for key, value in pairs(node)}


def referred(node: Node) -> Iterator[str]:
    """Every name an expression or object refers to; names of properties are not referred to."""
    if node.type == "identifier":
        yield token(node)
    inner = node.named_children
    if node.type == "object_property" and inner[0].type == "identifier":
        inner = inner[1:]
    for child in inner:
        yield from referred(child)


def _first_error(node: Node) -> str:
    if node.is_error or node.is_missing:
        return f"line {node.start_point[0] + 1}: {token(node)[:60]!r}"
    return next((_first_error(child) for child in node.children if child.has_error), "?")
