"""The flow's graph: ``pf flow validate`` passes references that lead nowhere."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
import yaml

from flows.evaluate_safety.safety_aggregate import aggregate
from flows.evaluate_safety.safety_content import content_safety
from flows.evaluate_safety.safety_rules.verdict import Verdict
from flows.evaluate_safety.safety_score import score
from tests.flows.evaluate_safety.conftest import INPUTS, read_rows
from tests.home import ROOT

FOLDER = ROOT / "flows" / "evaluate_safety"
DAG: dict[str, Any] = yaml.safe_load((FOLDER / "flow.dag.yaml").read_text(encoding="utf-8"))
NODES = {node["name"]: node for node in DAG["nodes"]}
TOOLS: dict[str, Callable[..., Any]] = {
    "content_safety": content_safety,
    "score": score,
    "aggregate": aggregate,
}


def references(value: Any) -> set[str]:
    return set(re.findall(r"\$\{([^}]+)\}", str(value)))


def test_every_reference_exists_and_every_input_is_used() -> None:
    inputs = {f"inputs.{name}" for name in DAG["inputs"]}
    outputs = {f"{name}.output" for name in NODES}
    verdict = {f"score.output.{field.name}" for field in fields(Verdict)}
    used = {found for node in NODES.values() for found in references(node["inputs"])}
    assert used <= inputs | outputs
    assert inputs <= used
    assert references(DAG["outputs"]) == verdict
    assert set(DAG["outputs"]) == {field.name for field in fields(Verdict)}
    assert set(DAG["inputs"]) == set(INPUTS)


@pytest.mark.parametrize("name", NODES)
def test_node_inputs_are_the_tool_parameters(name: str) -> None:
    node, parameters = NODES[name], inspect.signature(TOOLS[name]).parameters
    # The connection stands in no file: a run brings it.
    assert set(node["inputs"]) == set(parameters) - {"connection"}
    assert (FOLDER / node["source"]["path"]).is_file()
    for given, value in node["inputs"].items():
        if not references(value):
            assert value == parameters[given].default


def test_only_the_last_node_aggregates() -> None:
    assert [name for name, node in NODES.items() if node.get("aggregation")] == ["aggregate"]
    assert list(NODES) == list(TOOLS)
    assert (FOLDER / DAG["environment"]["python_requirements_txt"]).is_file()


def test_sample_lines_map_onto_inputs() -> None:
    rows = read_rows(FOLDER / "data.jsonl")
    assert all(set(row) == set(DAG["inputs"]) for row in rows)
    assert len({row["category"] for row in rows}) == 6


def test_modules_have_names_of_their_own() -> None:
    """A process that runs several flows finds all their modules on one path."""
    ours = {path.name for path in FOLDER.glob("*.py")}
    others = {
        path.name
        for path in (ROOT / "flows").glob("*/*.py")
        if path.parent != FOLDER and path.name != "__init__.py"
    }
    assert not ours & others
