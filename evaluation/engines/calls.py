"""The nodes of a graph as functions of what they read: literals and connections are filled in."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from functools import partial
from types import NoneType
from typing import Any, get_args

from evaluation.engines import chat_api, names
from evaluation.engines.graph import TYPES, Graph, Node
from setup.common import connection_store
from setup.common.errors import FixableError

Call = Callable[..., Any]
_KINDS = {int: "int", float: "double", bool: "bool", str: "string", list: "list"}
_CLIENTS = {"OpenAIConnection": chat_api.OpenAI, "AzureOpenAIConnection": chat_api.AzureOpenAI}


def load(graph: Graph, connections: Mapping[str, str]) -> dict[str, Call]:
    """Each node's function by its name; ``connections`` replaces ``NODE.INPUT``, or ``NODE``.

    Raises:
        FixableError: A node cannot be loaded, or its connection is missing or of another kind.
    """
    folder = str(graph.path.parent)
    if folder not in sys.path:  # a flow's modules import each other from there
        sys.path.insert(0, folder)
    places = {tuple((*key.split(".", 1), "connection")[:2]): v for key, v in connections.items()}
    nodes = [node.name for node in graph.nodes]
    unknown = sorted({node for node, _ in places} - set(nodes))
    if unknown:
        raise FixableError(f"{graph.path} has no node {unknown[0]}", f"one of: {', '.join(nodes)}")
    calls = {}
    for node in graph.nodes:
        own = {key: value for (name, key), value in places.items() if name == node.name}
        calls[node.name] = _python(node, own) if node.kind == "python" else _prompt(node, own)
    return calls


def _python(node: Node, connections: Mapping[str, str]) -> Call:
    function = _tool(node)
    parameters = inspect.signature(function, eval_str=True).parameters
    filled = {}
    for key, value in {**node.literals, **connections}.items():
        parameter = parameters.get(key, inspect.Parameter("any", inspect.Parameter.KEYWORD_ONLY))
        no_type = parameter.annotation is inspect.Parameter.empty
        annotation: Any = type(parameter.default) if no_type else parameter.annotation
        kinds = [kind for kind in get_args(annotation) or [annotation] if kind is not NoneType]
        if all(isinstance(kind, type) and issubclass(kind, names.Connection) for kind in kinds):
            filled[key] = _connection(node, value, tuple(kinds))
        elif key in connections:
            what = f"{node.source}: input {key} takes no connection"
            raise FixableError(what, "name one that does: NODE.INPUT=NAME")
        else:
            filled[key] = _literal(node, key, value, _KINDS.get(annotation, "object"))
    if not inspect.iscoroutinefunction(function):
        return partial(function, **filled)
    return lambda **inputs: asyncio.run(function(**filled, **inputs))


def _tool(node: Node) -> Call:
    """The one ``@tool`` function in the node's file."""
    spec = importlib.util.spec_from_file_location(f"{node.source.stem}_of_node", node.source)
    if spec is None or spec.loader is None:
        raise FixableError(f"{node.source} is no Python file", "correct the flow")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a module may raise anything
        explained = names.explain_import(error) if isinstance(error, ImportError) else None
        what = f"{node.source} cannot be loaded: {type(error).__name__}: {error}"
        raise explained or FixableError(what, "correct it, or install what it needs") from error
    tools = [item for item in vars(module).values() if getattr(item, "is_tool", False)]
    if len(tools) != 1:
        what = f"{node.source} has {len(tools)} @tool functions, engine plain takes one"
        raise FixableError(what, "leave one, or --engine promptflow")
    return tools[0]  # type: ignore[no-any-return]


def _prompt(node: Node, changed: Mapping[str, str]) -> Call:
    """An LLM or a prompt node; what it reads of the line begins no message of its own."""
    template = node.source.read_text(encoding="utf-8")
    filled, call = dict(node.literals), partial(chat_api.render_prompt, template)
    if node.kind == "llm":
        filled |= {key: value for key, value in changed.items() if key != "connection"}
        refused = [key for key in (*filled, *node.references) if key in chat_api.NOT_DONE]
        if refused:
            what = f"{node.source}: engine plain does not do {refused[0]} of an LLM node"
            raise FixableError(what, "--engine promptflow")
        name = changed.get("connection", node.connection)
        connection = _connection(node, name, tuple(names.CONNECTIONS[kind] for kind in _CLIENTS))
        call = partial(_CLIENTS[type(connection).__name__](connection).chat, template)
    for key, value in filled.items():
        filled[key] = _literal(node, key, value, chat_api.PARAMETERS.get(key, "object"))
    settings = {*chat_api.PARAMETERS, "model", "deployment_name"}
    lines = {key for key, reference in node.references.items() if not reference.node} - settings

    def ask(**inputs: Any) -> Any:
        return call(
            **filled, **{k: chat_api.mask(v) if k in lines else v for k, v in inputs.items()}
        )

    return ask


def _literal(node: Node, key: str, value: Any, kind: str) -> Any:
    try:
        return TYPES[kind](value)
    except (ValueError, TypeError, KeyError, AttributeError):
        what = f"node {node.name}: {key} is {value!r}, which is not of type {kind}"
        raise FixableError(what, "correct the flow") from None


def _connection(node: Node, name: str, kinds: tuple[type, ...]) -> names.Connection:
    stored = connection_store.read(name)
    connection: names.Connection = names.CONNECTIONS[stored.kind](
        name, stored.configs, stored.secrets
    )
    if not isinstance(connection, kinds):
        takes = " or ".join(kind.__name__ for kind in kinds)
        what = f"connection {name} is a {stored.kind}, node {node.name} takes a {takes}"
        raise FixableError(what, "name another connection")
    return connection
