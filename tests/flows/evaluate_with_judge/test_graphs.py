"""The flows' graphs, and their files: `pf flow validate` passes references that lead nowhere."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from tests.home import ROOT

FOLDERS = ("evaluate_with_judge", "evaluate_with_evals_judge")
each_flow = pytest.mark.parametrize("name", FOLDERS)


def dag_of(name: str) -> dict[str, Any]:
    text = (ROOT / "flows" / name / "flow.dag.yaml").read_text(encoding="utf-8")
    dag = yaml.safe_load(text)
    assert isinstance(dag, dict)
    return dag


def nodes_of(dag: dict[str, Any]) -> list[dict[str, Any]]:
    variants = dag.get("node_variants", {})
    chosen = [
        {"name": name} | variant["node"]
        for name, spec in variants.items()
        for variant in spec["variants"].values()
    ]
    return chosen + [node for node in dag["nodes"] if not node.get("use_variants")]


@each_flow
def test_every_reference_and_file_exists(name: str) -> None:
    dag = dag_of(name)
    nodes = nodes_of(dag)
    known = {f"inputs.{field}" for field in dag["inputs"]}
    known |= {f"{node['name']}.output" for node in nodes}
    wanted = [str(node["inputs"]) for node in nodes] + [str(dag["outputs"])]
    used = {found for text in wanted for found in re.findall(r"\$\{(\w+\.\w+)", text)}
    assert used <= known
    assert {f"inputs.{field}" for field in dag["inputs"]} <= used
    for node in nodes:
        assert (ROOT / "flows" / name / node["source"]["path"]).is_file()


@each_flow
def test_sample_lines_map_onto_inputs(name: str) -> None:
    text = (ROOT / "flows" / name / "data.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    assert rows
    assert all(set(row) <= set(dag_of(name)["inputs"]) for row in rows)


def test_variants_differ_in_the_mode_alone() -> None:
    variants = dag_of("evaluate_with_judge")["node_variants"]["case"]["variants"]
    modes = {name: spec["node"]["inputs"].pop("mode") for name, spec in variants.items()}
    assert modes == {"score": "score", "pairwise": "pairwise"}
    assert variants["score"] == variants["pairwise"]


def test_modules_have_names_of_their_own() -> None:
    """Flows run in one process, where a second module of one name would be the first one."""
    names = [path.stem for path in (ROOT / "flows").glob("*/*.py") if path.stem != "__init__"]
    assert sorted(names) == sorted(set(names))


def test_the_connection_template_is_the_one_named_and_holds_no_key() -> None:
    text = (ROOT / "connections" / "judge.yaml").read_text(encoding="utf-8")
    connection = yaml.safe_load(text)
    assert (connection["type"], connection["api_key"]) == ("open_ai", "<user-input>")
    nodes = [node for name in FOLDERS for node in nodes_of(dag_of(name))]
    named = [node.get("connection") or node["inputs"].get("connection") for node in nodes]
    assert {name for name in named if name} == {connection["name"]}
