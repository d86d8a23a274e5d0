"""The audit and the cutover: what is dead on a day, what only promptflow runs, what was proved."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from evaluation import exit as leaving
from evaluation.skin import ALLOWED
from setup.azure.facts import lifecycle
from setup.common.paths import REPOSITORY
from setup.recipe.load import load_recipe
from tests.evaluation.conftest import Machine, failed
from tests.home import ROOT

COMMIT = {"commit": "c0ffee" * 6, "clean": True, "sha256": {"flows": "1", "locks": "2"}}
EQUAL = {**COMMIT, "engines": ["promptflow", "plain"], "cases": {"errors": 8}, "differences": {}}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def audit(machine: Machine, code: int = 0) -> dict[str, Any]:
    done = machine.run("exit", "audit", "--json")
    assert done.returncode == code, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def test_the_day_after_prompt_flow_names_what_is_dead(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = {}
    for day in (date(2026, 11, 30), date(2026, 12, 1), date(2027, 4, 21)):
        monkeypatch.setattr(lifecycle, "today", lambda day=day: day)
        rows = audit(machine)["retirements"]
        dead[day] = [row["name"].split(":")[0] for row in rows if row["passed"]]
        assert all(row["source"].startswith("https://") for row in rows)
    first, second, last = dead.values()
    assert [name.split(",")[0] for name in first] == ["gpt-4o"]
    assert second == [*first, "Foundry's declarative workflows"]
    assert {"Prompt flow", "Prompt flow's container images, which pf flow build uses"} <= set(last)
    assert len(last) == 5
    told = machine.run("exit", "audit").stdout
    assert "Prompt flow: portal, compute sessions, uploaded flows, pfazure was retired on" in told


def test_every_node_and_engine_is_listed(machine: Machine) -> None:
    nodes = {(node["flow"], node["node"]): node for node in audit(machine)["nodes"]}
    assert len({flow for flow, _ in nodes}) == 5
    assert {node["promptflow"] for node in nodes.values()} == {"runs"}
    refused = {key: node for key, node in nodes.items() if node["plain"] != "runs"}
    assert list(refused) == [("evaluate_with_evals_judge", "judges")]
    [node] = refused.values()
    assert node["plain"] == "needs azure-ai-evaluation, which is not installed"
    assert "azure_*" in node["instead"]
    assert node["instead"].endswith("--evaluator judge")


def test_a_node_that_promptflow_alone_runs_is_a_hole(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(ROOT / "flows", tmp_path / "flows")
    graph = folder / "evaluate_answers" / "flow.dag.yaml"
    text = graph.read_text(encoding="utf-8")
    graph.write_text(
        text.replace("    path: score.py\n", "    path: score.py\n  activate: {}\n", 1)
    )
    skin = folder / "chat" / "usage.py"
    skin.write_text("from promptflow.core import Prompty\n" + skin.read_text(encoding="utf-8"))
    monkeypatch.setattr(leaving, "FLOWS", folder)
    monkeypatch.setattr(leaving, "importing_files", lambda: {*ALLOWED, "setup/x.py"})
    content = audit(machine, code=3)
    holes = "\n".join(content["holes"])
    assert "evaluate_answers, node score" in holes
    assert "activate" in holes
    assert "setup/x.py imports promptflow, and is no skin" in holes
    told = {node["node"]: node["plain"] for node in content["nodes"] if node["flow"] == "chat"}
    assert told == {"chat": "runs", "usage": "does not have Prompty of promptflow.core"}


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe of the user's own, on a commit that has no changes."""
    monkeypatch.setattr(leaving, "compared_state", lambda: COMMIT)
    return Path(shutil.copy(REPOSITORY / "setup" / "recipes" / "laptop.yaml", tmp_path))


def prove(machine: Machine, **changes: Any) -> None:
    folder = machine.home / "runs" / "parity-latest"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "parity.json").write_text(json.dumps(EQUAL | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"commit": "another"},
        {"clean": False},
        {"sha256": {"flows": "other", "locks": "2"}},
        {"engines": ["plain", "plain"]},
        {"differences": {"errors": "line 1"}},
        {"cases": {}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_no_cutover_without_proof(machine: Machine, recipe: Path, changes: dict[str, Any]) -> None:
    before = recipe.read_bytes()
    prove(machine, **changes)
    line = failed(machine.run("exit", "cutover", "--recipe", str(recipe)))
    assert "shows promptflow and plain equal at commit c0ffee" in line
    assert line.endswith("Fix: python -m evaluation parity --engines promptflow,plain")
    assert recipe.read_bytes() == before


def test_cutover_changes_the_default_alone(machine: Machine, recipe: Path) -> None:
    before = recipe.read_text(encoding="utf-8")
    prove(machine)
    done = machine.run("exit", "cutover", "--recipe", str(recipe))
    assert done.returncode == 0, done.stderr
    assert recipe.read_text(encoding="utf-8") == before.replace("engine: auto", "engine: plain")
    assert (
        "was the default already" in machine.run("exit", "cutover", "--recipe", str(recipe)).stdout
    )
    line = failed(machine.run("exit", "cutover", "--recipe", "phi-azure"))
    assert "recipe phi-azure is for target azure, this command is for target local" in line
    line = failed(machine.run("exit", "cutover", "--recipe", str(recipe), "--engine", "auto"))
    assert "the cutover leads to engine plain or agent, not to auto" in line


def test_cutover_to_the_agent_wants_it_compared_too(machine: Machine, recipe: Path) -> None:
    command = ("exit", "cutover", "--recipe", str(recipe), "--engine", "agent")
    prove(machine)
    line = failed(machine.run(*command))
    assert "shows promptflow, plain and agent equal at commit c0ffee" in line
    assert line.endswith("Fix: python -m evaluation parity --engines promptflow,plain,agent")
    prove(machine, engines=["promptflow", "plain", "agent@/of/its/python"])
    assert machine.run(*command).returncode == 0
    assert load_recipe(str(recipe), []).evaluation.engine == "agent"


def test_cutover_of_a_recipe_that_says_nothing_of_it(machine: Machine, recipe: Path) -> None:
    text = recipe.read_text(encoding="utf-8").partition("evaluation:")[0]
    recipe.write_text(text, encoding="utf-8")
    prove(machine)
    assert machine.run("exit", "cutover", "--recipe", str(recipe)).returncode == 0
    assert recipe.read_text(encoding="utf-8").endswith("\n\nevaluation:\n  engine: plain\n")


def test_changes_that_no_comparison_saw(
    machine: Machine, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving, "compared_state", lambda: COMMIT | {"clean": False})
    line = failed(machine.run("exit", "cutover", "--recipe", str(recipe)))
    assert "the checkout has changes that no comparison saw" in line
