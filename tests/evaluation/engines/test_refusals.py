"""What engine plain does not do it names in one line, and what a flow gets wrong as well."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.evaluation.engines.conftest import Job, Machine

NODE = {"name": "one", "type": "python", "source": {"type": "code", "path": "one.py"}}
READS = {"inputs": {"text": "${inputs.text}"}}
FLOW: dict[str, Any] = {
    "inputs": {"text": {"type": "string"}},
    "outputs": {"text": {"type": "string", "reference": "${one.output}"}},
    "nodes": [NODE | READS],
}
TOOL = "from promptflow.core import tool\n\n@tool\ndef one(text: str):\n    return text\n"


def flow_of(folder: Path, dag: dict[str, Any], code: str = TOOL, template: str = "") -> Job:
    """A job over one line of a flow of the test's own."""
    (folder / "flow.dag.yaml").write_text(yaml.safe_dump(dag))
    (folder / "one.py").write_text(code)
    (folder / "ask.jinja2").write_text(template)
    return Job(str(folder), [{"text": "a"}])


def node(**changes: Any) -> dict[str, Any]:
    """The flow with another node."""
    return FLOW | {"nodes": [NODE | READS | changes]}


LLM = {"type": "llm", "api": "chat", "source": {"type": "code", "path": "ask.jinja2"}}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "activate": (node(activate={"when": "${inputs.text}", "is": "a"}), "activate (node one)"),
    "package tool": (node(source={"type": "package", "tool": "x.y"}), "a package tool (node one)"),
    "node type": (node(type="custom_llm"), "node one of type custom_llm"),
    "api": (node(**LLM | {"api": "completion"}), "api completion (node one)"),
    "functions": (node(**LLM, inputs={"functions": "[]"}, connection="judge"), "functions"),
    "input type": (FLOW | {"inputs": {"text": {"type": "image"}}}, "input text of type image"),
    "flow key": (FLOW | {"environment_variables": {"A": "b"}}, "environment_variables"),
    "flex flow": ({"entry": "one:one"}, "no flow with nodes"),
}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no such node": (node(inputs={"text": "${two.output}"}), "one reads ${two.output}"),
    "no such input": (node(inputs={"text": "${inputs.other}"}), "one reads ${inputs.other}"),
    "a circle": (node(inputs={"text": "${one.output}"}), "which nothing gives it"),
    "no such output": (
        FLOW | {"outputs": {"text": {"reference": "${two.output}"}}},
        "output text refers to nothing",
    ),
    "no file": (node(source={"type": "code", "path": "two.py"}), "no file two.py"),
    "no variant": (FLOW | {"nodes": [{"name": "one", "use_variants": True}]}, "no variant None"),
    "section": (node(inputs={"text": "${one.input}"}), "is no output of node one"),
}


def line(machine: Machine, job: Job) -> str:
    done = machine.start(job)
    assert done.returncode == 1, done.stdout
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("case", REFUSED)
def test_refused(machine: Machine, tmp_path: Path, case: str) -> None:
    machine.connect("judge", "OpenAIConnection", base_url="http://127.0.0.1:9/v1")
    dag, told = REFUSED[case]
    said = line(machine, flow_of(tmp_path, dag))
    assert told in said
    assert "--engine promptflow" in said


@pytest.mark.parametrize("case", WRONG)
def test_wrong(machine: Machine, tmp_path: Path, case: str) -> None:
    dag, told = WRONG[case]
    said = line(machine, flow_of(tmp_path, dag))
    assert told in said
    assert "Fix: " in said


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("from promptflow.core import Prompty", "no Prompty in promptflow.core"),
        ("from promptflow.client import PFClient", "No module named 'promptflow.client'"),
        ("import nothing_of_the_kind", "No module named 'nothing_of_the_kind'"),
        ("", "has 0 @tool functions"),
    ],
)
def test_a_module_that_cannot_be_loaded(
    machine: Machine, tmp_path: Path, code: str, told: str
) -> None:
    assert told in line(machine, flow_of(tmp_path, FLOW, code))


def test_connections(machine: Machine, tmp_path: Path) -> None:
    job = Job("chat", [{"question": "a", "chat_history": []}])
    assert "no connection phi in" in line(machine, job)
    machine.connect("phi", "OpenAIConnection", base_url="http://127.0.0.1:9/v1")
    assert "is a OpenAIConnection, node chat takes a CustomConnection" in line(machine, job)
    job.connections = {"nothing.connection": "phi"}
    assert "has no node nothing" in line(machine, job)


def test_a_name_of_promptflow_that_is_missing_at_run_time(machine: Machine, tmp_path: Path) -> None:
    code = TOOL.replace("return text", "from promptflow.core import Prompty")
    (kind, text), *_ = machine.plain(flow_of(tmp_path, FLOW, code)).lines
    assert kind == "ImportError"
    assert "no Prompty in promptflow.core" in text
    assert "--engine promptflow" in text


GRAPH = {
    "inputs": {"n": {"type": "int", "default": 2}, "items": {"type": "list"}},
    "outputs": {
        "last": {"type": "string", "reference": "${one.output.parts[1].name}"},
        "prompt": {"type": "string", "reference": "${ask.output}"},
        "pieces": {"type": "string", "reference": "${one.output.['spelt out']}"},
    },
    "nodes": [
        {
            "name": "ask",
            "type": "prompt",
            "source": {"type": "code", "path": "ask.jinja2"},
            "inputs": {"items": "${inputs.items}", "made": "${one.output.parts}"},
        },
        NODE | {"inputs": {"n": "${inputs.n}", "items": "${inputs.items}", "scale": "1.5"}},
        {
            "name": "late",
            "type": "python",
            "aggregation": True,
            "source": {"type": "code", "path": "late.py"},
            "inputs": {"numbers": "${inputs.n}", "firsts": "${one.output.parts[0]}", "limit": "3"},
        },
    ],
}
CODE = """
from promptflow.core import tool

@tool
def one(n: int, items: list, scale: float):
    if n > 5:
        raise KeyError(f"{n} is too many")
    parts = [{"name": f"{item} {n * scale}"} for item in items]
    return {"parts": parts, "spelt out": (part["name"] for part in parts)}
"""
LATE = """
from promptflow.core import log_metric, tool

@tool
def late(numbers: list, firsts: list, limit: int):
    log_metric("sum", sum(numbers) + limit)
    log_metric("lines", len(firsts))
"""


def test_the_parts_of_a_graph_are_as_in_promptflow(machine: Machine, tmp_path: Path) -> None:
    """Order, defaults, deep references, types, generators, prompts, nodes after all lines."""
    folder = tmp_path / "flow"
    folder.mkdir()
    template = "{% for item in items %}\n{{ item }}, {{ made[loop.index0].name }}\n{% endfor %}\n"
    job = flow_of(folder, GRAPH, CODE, template)
    (folder / "late.py").write_text(LATE)
    job.rows = [
        {"items": ["a", "user:\nb"], "n": "4"},
        {"items": '["c", "d"]', "n": 1},
        {"items": ["e", "f"], "n": 9},
        {"items": ["e"], "n": 1},
        {"items": 7, "n": 1},
    ]
    job.columns = {"n": "${data.n}", "items": "${data.items}"}
    ours = machine.plain(job)
    sys.path.insert(0, str(folder))
    theirs = machine.promptflow(job)
    assert ours.lines[:3] == theirs.lines[:3]
    assert ours.metrics == theirs.metrics == {"sum": 8, "lines": 2}
    failures = [line for line in ours.lines if isinstance(line, tuple)]
    assert failures == [
        ("KeyError", "'9 is too many'"),
        ("LookupError", "${one.output.parts[1].name}: the output of one has no such part"),
        ("ValueError", "the line's input items is not of type list"),
    ]
    assert all(isinstance(line, tuple) for line in theirs.lines[2:])
