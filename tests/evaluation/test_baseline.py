"""The committed baseline: it holds its own gates, and a worse run does not get past them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

import evaluation.cli.main
import setup.cli.main
from tests.evaluation.conftest import Machine
from tests.home import ROOT

BASELINE = ROOT / "evaluation" / "baseline"
CLIS = {"setup": setup.cli.main, "evaluation": evaluation.cli.main}
WORKFLOW = ROOT / ".github" / "workflows" / "evaluation.yml"


def test_the_baseline_passes_its_gates(machine: Machine) -> None:
    done = machine.run("gate", str(BASELINE), str(BASELINE))
    assert done.returncode == 0, done.stdout
    assert "FAIL" not in done.stdout
    assert done.stdout.count("pass  ") >= 9


@pytest.fixture
def worse(tmp_path: Path) -> Path:
    """The baseline after a change that lost every fifth fact."""
    folder = Path(shutil.copytree(BASELINE, tmp_path / "runs" / "candidate" / "phi-tuned"))
    rows = [json.loads(line) for line in (folder / "rows.jsonl").open(encoding="utf-8")]
    for row in rows[::5]:
        row["scores"] |= {"fact_recall": 0.0, "f1": 0.0} if row["facts"] else {}
    lines = (json.dumps(row) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def test_a_worse_run_fails_and_the_gate_is_named(machine: Machine, worse: Path) -> None:
    done = machine.run("gate", str(BASELINE), "candidate/phi-tuned", "--json")
    assert done.returncode == 3, done.stderr
    found = json.loads(done.stdout)
    assert found["ok"] is False
    failing = {gate["name"] for gate in found["gates"] if not gate["passed"]}
    assert {"fact_recall not_worse_by 0.05", "f1 not_worse_by 0.05"} <= failing
    done = machine.run("gate", str(BASELINE), str(worse))
    assert "FAIL  fact_recall not_worse_by 0.05: " in done.stdout


def test_the_baseline_is_of_the_committed_recipe_and_data() -> None:
    config: dict[str, Any] = json.loads((BASELINE / "config.json").read_text())
    assert config["data"]["path"] == "data/sample/test.jsonl"
    recipe = yaml.safe_load((ROOT / "setup/recipes/laptop.yaml").read_text(encoding="utf-8"))
    assert config["recipe"]["finetune"] == recipe["finetune"]
    assert json.loads((BASELINE / "summary.json").read_text())["error"] == 0


def test_the_workflow_names_what_exists() -> None:
    steps = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["gate"]["steps"]
    commands = "\n".join(step["run"] for step in steps if "run" in step)
    known = {name: vars(get_command(cli.app))["commands"] for name, cli in CLIS.items()}
    named = re.findall(r"python -m (setup|evaluation) (\w+)", commands)
    assert len(named) >= 4
    assert all(command in known[module] for module, command in named)
    for path in re.findall(r"(?:evaluation|setup)/[\w./]+", commands):
        assert (ROOT / path).exists(), path
