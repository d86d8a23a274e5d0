"""A ``flow.dag.yaml`` as a graph that plain Python can run; what it cannot is refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from setup.common.errors import FixableError

_FLOW = {"inputs", "outputs", "nodes", "node_variants", "environment", "$schema", "id", "name"}
_FLOW |= {"display_name", "description", "tags", "type", "language"}
_NODE = {"name", "type", "source", "inputs", "use_variants", "aggregation", "comment"}
_LLM = _NODE | {"api", "provider", "module", "connection"}
_PART = re.compile(r"\['(.*?)'\]|\[(\d+)\]|(\w+)")


@dataclass(frozen=True)
class Reference:
    """``${inputs.PATH}``, whose ``node`` is "", or ``${NODE.output.PATH}``."""

    text: str
    node: str
    path: str

    @classmethod
    def parse(cls, value: Any) -> Reference | None:
        """The reference that ``value`` is; None for a literal."""
        if not (isinstance(value, str) and value.startswith("${") and value.endswith("}")):
            return None
        head, _, rest = value[2:-1].partition(".")
        if head in ("inputs", "flow"):
            return cls(value, "", rest)
        section, _, path = rest.partition(".")
        if section not in ("", "output"):
            raise FixableError(f"{value} is no output of node {head}", f"write ${{{head}.output}}")
        return cls(value, head, path)

    def find(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
        """The value, or a part of it by key, index or attribute.

        Raises:
            LookupError: The node's output has no such part.
        """
        if not self.node:
            return inputs[self.path]
        value = outputs[self.node]
        try:
            for quoted, index, name in _PART.findall(self.path):
                if name and not isinstance(value, dict):
                    value = getattr(value, name)
                else:
                    value = value[int(index) if index else quoted or name]
        except (LookupError, AttributeError, TypeError):
            raise LookupError(f"{self.text}: the output of {self.node} has no such part") from None
        return value


@dataclass(frozen=True)
class Node:
    """One node, made of the file ``source``; its inputs are literals and references."""

    name: str
    kind: str
    source: Path
    literals: dict[str, Any]
    references: dict[str, Reference]
    connection: str
    aggregation: bool


@dataclass(frozen=True)
class Graph:
    """A flow: the types and defaults of its inputs, and its nodes in the order of a run."""

    path: Path
    types: Mapping[str, str]
    defaults: Mapping[str, Any]
    outputs: Mapping[str, Reference]
    nodes: Sequence[Node]

    @classmethod
    def read(cls, flow: Path, variant: str = "") -> Graph:
        """The graph of a flow folder or its YAML file; ``variant`` is "" or ``${NODE.VARIANT}``.

        Raises:
            FixableError: It is no graph, refers to nothing, or needs what only promptflow does.
        """
        path = flow / "flow.dag.yaml" if flow.is_dir() else flow
        content = _load(path)
        inputs, outputs = content.get("inputs") or {}, content.get("outputs") or {}
        types = {name: str(spec.get("type")) for name, spec in inputs.items()}
        for name, kind in types.items():
            _able(kind in TYPES, path, f"input {name} of type {kind}")
        defaults = {name: spec.get("default") for name, spec in inputs.items()}
        nodes = [_read_node(path, node) for node in _choose(path, content, variant)]
        ends = {name: Reference.parse(spec.get("reference")) for name, spec in outputs.items()}
        for name, end in ends.items():
            normal = {node.name: node for node in nodes if not node.aggregation}
            good = end and (end.node in normal or (not end.node and end.path in types))
            _sound(bool(good), path, f"output {name} refers to nothing that a line has")
        return cls(
            path,
            types,
            {name: default for name, default in defaults.items() if default is not None},
            {name: end for name, end in ends.items() if end},
            _in_order(path, nodes, types),
        )

    def line_inputs(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs of a line: defaults added, each of its type.

        Raises:
            ValueError: One is missing, or not of its type.
        """
        values = {**self.defaults, **row}
        for name, kind in self.types.items():
            if name not in values:
                raise ValueError(f"the line has no input {name}")
            try:
                values[name] = TYPES[kind](values[name])
            except (ValueError, TypeError, KeyError, AttributeError):
                raise ValueError(f"the line's input {name} is not of type {kind}") from None
        return values


def _to_bool(value: Any) -> bool:
    return value if isinstance(value, bool) else {"true": True, "false": False}[value.lower()]


def _to_list(value: Any) -> list[Any]:
    made = json.loads(value) if isinstance(value, str) else value
    if not isinstance(made, list):
        raise TypeError
    return made


def _to_object(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


# promptflow's types, each with what makes a value one.
TYPES: dict[str, Callable[[Any], Any]] = {"string": str, "int": int, "double": float}
TYPES |= {"bool": _to_bool, "list": _to_list, "object": _to_object}


def _load(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        content = None
    if not isinstance(content, dict) or not content.get("nodes"):
        what = f"{path} is no flow with nodes, which engine plain needs"
        raise FixableError(what, "name another; for a flex flow or prompty: --engine promptflow")
    _able(not content.keys() - _FLOW, path, ", ".join(sorted(content.keys() - _FLOW)))
    _able(content.get("language", "python") == "python", path, "a language other than Python")
    return content


def _choose(path: Path, content: dict[str, Any], variant: str) -> list[dict[str, Any]]:
    """The nodes as the variant has them, the others by default."""
    varied, _, chosen = variant.removeprefix("${").removesuffix("}").partition(".")
    families = content.get("node_variants") or {}
    _sound(not variant or varied in families, path, f"no node has a variant {variant}")
    nodes = []
    for node in content["nodes"]:
        if node.get("use_variants"):
            family = families.get(node["name"], {})
            name = chosen if node["name"] == varied else family.get("default_variant_id")
            member = family.get("variants", {}).get(name)
            _sound(member is not None, path, f"node {node['name']} has no variant {name}")
            node = {"name": node["name"], **member["node"]}  # noqa: PLW2901
        nodes.append(node)
    return nodes


def _read_node(path: Path, node: dict[str, Any]) -> Node:
    name, kind, source = str(node.get("name")), str(node.get("type")), node.get("source") or {}
    _able(kind in ("python", "llm", "prompt"), path, f"node {name} of type {kind}")
    unknown = node.keys() - (_LLM if kind == "llm" else _NODE)
    _able(not unknown, path, f"{', '.join(sorted(unknown))} (node {name})")
    _able(source.get("type", "code") == "code", path, f"a package tool (node {name})")
    _able(kind != "llm" or node.get("api") == "chat", path, f"api {node.get('api')} (node {name})")
    file = path.parent / str(source.get("path"))
    _sound(file.is_file(), path, f"no file {source.get('path')} for node {name}")
    inputs = node.get("inputs") or {}
    references = {key: Reference.parse(value) for key, value in inputs.items()}
    return Node(
        name,
        kind,
        file,
        # promptflow leaves an empty literal to the parameter's default.
        {k: v for k, v in inputs.items() if references[k] is None and v not in (None, "")},
        {k: v for k, v in references.items() if v is not None},
        str(node.get("connection") or ""),
        bool(node.get("aggregation")),
    )


def _in_order(path: Path, nodes: Sequence[Node], types: Mapping[str, str]) -> list[Node]:
    """The nodes, each after those that it reads."""
    _sound(len({node.name for node in nodes}) == len(nodes), path, "two nodes have one name")
    ordered: dict[str, Node] = {}

    def missing(node: Node) -> Reference | None:
        for reference in node.references.values():
            source = ordered.get(reference.node)
            late = source is not None and source.aggregation and not node.aggregation
            if source is None or late if reference.node else reference.path not in types:
                return reference
        return None

    while len(ordered) < len(nodes):
        left = {node.name: missing(node) for node in nodes if node.name not in ordered}
        ready = next((name for name, reference in left.items() if reference is None), None)
        name, reference = next(iter(left.items()))
        told = f"node {name} reads {reference.text if reference else ''}, which nothing gives it"
        _sound(ready is not None, path, told)
        ordered |= {node.name: node for node in nodes if node.name == ready}
    return list(ordered.values())


def _sound(good: bool, path: Path, what: str) -> None:
    if not good:
        raise FixableError(f"{path}: {what}", "correct the flow, or name another")


def _able(good: bool, path: Path, what: str) -> None:
    if not good:
        raise FixableError(f"{path} uses what engine plain does not do: {what}", _OTHER)


_OTHER = "run it with --engine promptflow"
