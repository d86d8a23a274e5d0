"""The flow's graph: ``pf flow validate`` passes references that lead nowhere."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import pytest
import yaml

from flows.chat.chat import chat
from flows.chat.usage import usage
from tests.flows.chat.conftest import ROOT

FOLDER = ROOT / "flows" / "chat"
DAG: dict[str, Any] = yaml.safe_load((FOLDER / "flow.dag.yaml").read_text(encoding="utf-8"))
VARIANTS = {name: spec["node"] for name, spec in DAG["node_variants"]["chat"]["variants"].items()}
USAGE: dict[str, Any] = DAG["nodes"][1]
each_variant = pytest.mark.parametrize("node", VARIANTS.values(), ids=VARIANTS)


def references(value: Any) -> list[str]:
    return re.findall(r"\$\{([^}]+)\}", str(value))


@each_variant
def test_every_reference_exists(node: dict[str, Any]) -> None:
    known = {f"inputs.{name}" for name in DAG["inputs"]} | {
        "chat.output.answer",
        "chat.output.usage",
    }
    used = references(node["inputs"]) + references(DAG["outputs"]) + references(USAGE["inputs"])
    assert set(used) <= known
    assert {f"inputs.{name}" for name in DAG["inputs"]} <= set(used)


def test_the_answer_is_the_only_output() -> None:
    """A page shows an answer with a second output as a block of JSON."""
    assert DAG["outputs"] == {
        "answer": {"type": "string", "reference": "${chat.output.answer}", "is_chat_output": True}
    }


@each_variant
def test_node_inputs_are_the_tool_parameters(node: dict[str, Any]) -> None:
    assert set(node["inputs"]) == set(inspect.signature(chat).parameters)


def test_default_variant_has_the_defaults_of_the_tool() -> None:
    assert DAG["nodes"] == [{"name": "chat", "use_variants": True}, USAGE]
    default = VARIANTS[DAG["node_variants"]["chat"]["default_variant_id"]]["inputs"]
    parameters = inspect.signature(chat).parameters
    settings = set(default) - {"connection", *DAG["inputs"]}
    assert {name: default[name] for name in settings} == {
        name: parameters[name].default for name in settings
    }


def test_the_page_asks_for_nothing_but_the_question() -> None:
    """`pf flow serve` makes a required field of every input that is not the history."""
    assert set(DAG["inputs"]) == {"question", "chat_history"}


def test_chat_contract_of_prompt_flow() -> None:
    assert DAG["inputs"]["question"]["is_chat_input"]
    assert DAG["inputs"]["chat_history"]["is_chat_history"]
    assert DAG["outputs"]["answer"]["is_chat_output"]
    assert (FOLDER / DAG["environment"]["python_requirements_txt"]).is_file()
    assert set(USAGE["inputs"]) == set(inspect.signature(usage).parameters)
    assert (FOLDER / USAGE["source"]["path"]).is_file()
    for node in VARIANTS.values():
        assert node["inputs"]["connection"] == "phi"
        assert (FOLDER / node["source"]["path"]).is_file()


def test_sample_lines_map_onto_inputs() -> None:
    lines = (FOLDER / "data.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert all(set(row) <= set(DAG["inputs"]) for row in rows)
    assert any(row["chat_history"] for row in rows)
