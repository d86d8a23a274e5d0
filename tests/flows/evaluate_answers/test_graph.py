"""The flow's graph: ``pf flow validate`` passes references that lead nowhere."""

from __future__ import annotations

import inspect
import json
import re
import sys
from typing import Any

import yaml

from flows.evaluate_answers.score import score
from flows.evaluate_answers.summarize import summarize
from tests.home import ROOT

FOLDER = ROOT / "flows" / "evaluate_answers"
DAG: dict[str, Any] = yaml.safe_load((FOLDER / "flow.dag.yaml").read_text(encoding="utf-8"))
NODES = {node["name"]: node for node in DAG["nodes"]}


def references(value: Any) -> set[str]:
    return set(re.findall(r"\$\{([^}]+)\}", str(value)))


def test_every_reference_exists_and_every_input_is_used() -> None:
    inputs = {f"inputs.{name}" for name in DAG["inputs"]}
    used = references(DAG["nodes"]) | references(DAG["outputs"])
    assert used == inputs | {"score.output"}


def test_node_inputs_are_the_tool_parameters() -> None:
    for name, tool in {"score": score, "summarize": summarize}.items():
        assert set(NODES[name]["inputs"]) == set(inspect.signature(tool).parameters)
        assert (FOLDER / NODES[name]["source"]["path"]).is_file()
    assert NODES["summarize"]["aggregation"]


def test_sample_lines_have_every_input() -> None:
    lines = (FOLDER / "data.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(set(json.loads(line)) == set(DAG["inputs"]) for line in lines)
    assert (FOLDER / DAG["environment"]["python_requirements_txt"]).is_file()


def test_no_other_flow_has_a_module_of_the_same_name() -> None:
    """promptflow puts the folders of all flows it runs in one process on its path."""
    ours = {path.stem for path in FOLDER.iterdir() if path.suffix == ".py" or path.is_dir()}
    ours -= {"__pycache__", ".promptflow"}
    assert {"answer_metrics", "score", "summarize"} <= ours
    others = {
        path.stem
        for folder in FOLDER.parent.iterdir()
        if folder != FOLDER and folder.is_dir()
        for path in folder.iterdir()
    }
    assert not ours & others
    assert not ours & sys.stdlib_module_names
