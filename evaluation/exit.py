"""The way out of Prompt flow: what needs it, what ends when, the change of the default engine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from evaluation.engines import names
from evaluation.engines.graph import Graph
from evaluation.engines.parity import compared_state
from evaluation.skin import ALLOWED, importing_files, promptflow_names
from flows.evaluate_with_evals_judge.evals_judging.packages import AzureAiEvaluation
from setup.azure.facts import lifecycle
from setup.common import connection_store, promptflow_store
from setup.common.errors import FixableError
from setup.common.files import replace_together
from setup.common.flow_folder import FLOWS, flow_names
from setup.common.paths import read_json, runs_folder

RUNS, TWIN = "runs", "its twin flows/chat_agent does"
# The engines that can be the default, each with those that have to be equal before.
_EQUAL = {"plain": ("promptflow", "plain"), "agent": ("promptflow", "plain", "agent")}
_MICROSOFTS = "evaluate_with_evals_judge"
_OTHERS = "the judges of azure-ai-evaluation, other ones, in columns azure_*; or --evaluator judge"
_ENGINE = re.compile(r"^(evaluation:[^\n]*\n(?:[ #][^\n]*\n|\n)*? +engine: *)(\w+)", re.MULTILINE)


@dataclass(frozen=True)
class NodeAudit:
    """One node of a flow: which engine runs it, or why not; ``instead`` is what takes its place."""

    flow: str
    node: str
    promptflow: str
    plain: str
    agent: str
    instead: str

    @property
    def is_hole(self) -> bool:
        """True where promptflow alone runs it, and nothing takes its place."""
        return self.plain != RUNS and self.agent != TWIN and not self.instead


@dataclass(frozen=True)
class Audit:
    """All that leaving Prompt flow is about, as it is in this checkout, on this machine, today.

    ``connections`` are by store, None for promptflow's where it is not installed; ``becomes`` says
    of each flow that can be uploaded what takes its place; ``uploads`` are those in the project,
    None where no recipe of Azure was named.
    """

    nodes: Sequence[NodeAudit]
    strays: Sequence[str]
    retirements: Sequence[lifecycle.Retirement]
    connections: Mapping[str, Sequence[str] | None]
    becomes: Mapping[str, str]
    uploads: Mapping[str, Sequence[str]] | None

    @property
    def holes(self) -> list[str]:
        """The obstacles, a line each."""
        nodes = [f"{n.flow}, node {n.node}: {n.plain}" for n in self.nodes if n.is_hole]
        return nodes + [f"{path} imports promptflow, and is no skin" for path in self.strays]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        dated = [
            {"name": r.name, "on": r.on.isoformat(), "passed": r.passed, "source": r.source}
            | {"replaced_by": r.replaced_by}
            for r in self.retirements
        ]
        return {
            "ok": not self.holes,
            "holes": self.holes,
            "nodes": [asdict(node) for node in self.nodes],
            "imports": list(self.strays),
            "retirements": dated,
            "connections": dict(self.connections),
            "flows": dict(self.becomes),
            "uploads": self.uploads,
        }

    def text(self) -> str:
        """For people."""
        return "\n".join(line for part in self._parts() for line in (*part, "")).rstrip()

    def _parts(self) -> Iterator[list[str]]:
        for flow in dict.fromkeys(node.flow for node in self.nodes):
            yield [f"flow {flow}: {self.becomes[flow]}", *self._nodes_of(flow)]
        told = self.strays or ["none outside the skins"]
        yield ["imports of promptflow:", *(f"  {path}" for path in told)]
        yield ["what ends when:", *(f"  {one.line()}" for one in self.retirements)]
        kept = {
            store: "not installed" if n is None else ", ".join(n) or "none"
            for store, n in self.connections.items()
        }
        yield ["connections:", *(f"  {store}: {told}" for store, told in kept.items())]
        yield ["uploaded flows:", *self._uploads()]
        yield [f"HOLE  {hole}" for hole in self.holes] or ["ok: nothing needs Prompt flow alone"]

    def _nodes_of(self, flow: str) -> Iterator[str]:
        for node in self.nodes:
            if node.flow == flow:
                instead = f" ({node.instead})" if node.instead else ""
                yield (
                    f"  {node.node}: promptflow {node.promptflow}; plain {node.plain}; "
                    f"agent {node.agent}{instead}"
                )

    def _uploads(self) -> list[str]:
        if self.uploads is None:
            lacking = self.connections["promptflow's store"] is None
            also = ", and promptflow, which lists them, is not installed" if lacking else ""
            return [f"  not asked for: name a recipe for Azure with --recipe{also}"]
        told = [
            f"  {name} {', '.join(ids)}: {self.becomes.get(name, 'is no flow of ours any more')}"
            for name, ids in self.uploads.items()
        ]
        return told or ["  none"]


def make_audit(
    uploads: Mapping[str, Sequence[str]] | None = None,
    there: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Audit:
    """Look at the checkout and this machine; ``uploads`` are the ids of flows in a project.

    ``there`` are the connections that are elsewhere, by the name of the place.
    """
    stored: list[str] | None = None
    if installed := promptflow_store.is_promptflow_installed():
        stored = promptflow_store.connection_names()
    return Audit(
        [node for flow in flow_names() for node in _nodes(FLOWS / flow, installed)],
        sorted(importing_files() - ALLOWED),
        sorted(lifecycle.services(), key=lambda one: one.on),
        {"promptflow's store": stored, "our store": connection_store.names(), **there},
        {flow: _becomes(flow) for flow in flow_names()},
        uploads,
    )


def _nodes(flow: Path, installed: bool) -> Iterator[NodeAudit]:
    content = yaml.safe_load((flow / "flow.dag.yaml").read_text(encoding="utf-8"))
    refused, sources = "", dict[str, Path]()
    try:
        sources = {node.name: node.source for node in Graph.read(flow).nodes}
    except FixableError as error:
        refused = error.what
    for name in (str(node["name"]) for node in content["nodes"]):
        judged = (flow.name, name) == (_MICROSOFTS, "judges")
        plain = refused or _missing(sources[name]) or RUNS
        if judged and not AzureAiEvaluation.is_installed():
            plain = "needs azure-ai-evaluation, which is not installed"
        yield NodeAudit(
            flow.name,
            name,
            RUNS if installed else "is not installed",
            plain,
            TWIN if flow.name == "chat" else "has none",
            _OTHERS if judged else "",
        )


def _missing(source: Path) -> str:
    """The names a node's file takes of promptflow that engine plain does not have."""
    used = promptflow_names(source) if source.suffix == ".py" else ()
    lacking = [f"{name} of {module}" for module, name in used if not names.provides(module, name)]
    return f"does not have {', '.join(lacking)}" if lacking else ""


def _becomes(flow: str) -> str:
    if flow == "chat":
        return "becomes flows/chat_agent, a hosted agent; asked in a batch, engine plain runs it"
    if flow == _MICROSOFTS:
        return f"its judges end with promptflow-evals; instead {_OTHERS}"
    return "evaluation run does it on this machine, by engine plain"


def cut_over(recipe: Path, engine: str) -> bool:
    """Make ``engine`` the default of the recipe's file; False when it was so already.

    Raises:
        FixableError: No comparison of this very commit shows that the engine is equal.
    """
    if engine not in _EQUAL:
        what = f"the cutover leads to engine {' or '.join(_EQUAL)}, not to {engine}"
        raise FixableError(what, f"--engine plain; the way back is evaluation.engine in {recipe}")
    text = recipe.read_text(encoding="utf-8")
    current = _ENGINE.search(text)
    if current and current[2] == engine:
        return False
    _refuse_unproved(_EQUAL[engine])
    if current:
        text = _ENGINE.sub(rf"\g<1>{engine}", text)
    elif re.search(r"^evaluation:", text, re.MULTILINE):
        raise FixableError(f"{recipe} has a section evaluation without engine", "write it by hand")
    else:
        text = f"{text.rstrip()}\n\nevaluation:\n  engine: {engine}\n"
    with replace_together(recipe) as (file,):
        file.write(text.encode())
    return True


def _refuse_unproved(engines: Sequence[str]) -> None:
    state, parity = compared_state(), f"python -m evaluation parity --engines {','.join(engines)}"
    if not state["clean"]:
        raise FixableError(
            "the checkout has changes that no comparison saw", f"commit, then {parity}"
        )
    results = (read_json(path) for path in runs_folder().glob("parity-*/parity.json"))
    if not any(_shows_equal(result, state, engines) for result in results if result):
        commit = str(state["commit"])[:12]
        equal = f"{', '.join(engines[:-1])} and {engines[-1]} equal"
        what = f"no comparison in {runs_folder()} shows {equal} at commit {commit}"
        raise FixableError(what, parity)


def _shows_equal(
    result: Mapping[str, Any], state: Mapping[str, Any], engines: Sequence[str]
) -> bool:
    """Tell whether a comparison was of this state, of these engines, and found no difference."""
    compared = {str(spec).partition("@")[0] for spec in result.get("engines", ())}
    same = {name: result.get(name) for name in state} == state
    found_equal = bool(result.get("cases")) and not result.get("differences")
    return same and found_equal and compared >= set(engines)
