"""An evaluation over several machines: the flows run as uploaded, and come back as a run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from setup.azure.client.money import answered
from setup.azure.client.session import AzureSession
from setup.azure.deploy import step as deploy
from setup.recipe.azure import AzureRecipe
from tests.azure.commands import run_setup
from tests.azure.fake import FakeAzure
from tests.azure.fake.messages import AzureError
from tests.azure.serving import endpoint_of, make_workspace
from tests.home import ROOT

ROWS = 12
FAILING = (7, 10)
WHOLE = ["run", "--recipe", "phi-azure", "--nodes", "3", "--yes"]


def row(number: int) -> dict[str, Any]:
    history = [{"inputs": {"question": "Hello?"}, "outputs": {"answer": "Hi."}}]
    return {
        "id": f"row-{number}",
        "question": f"What is {number}?",
        "chat_history": history if number % 3 == 0 else [],
        "ground_truth": f"It is {number}.",
        "facts": [str(number)] if number % 2 else [],
        "must_decline": None if number % 5 else False,
    }


def write(path: Path, rows: int) -> Path:
    path.write_text("".join(json.dumps(row(number)) + "\n" for number in range(rows)))
    return path


def answer(_: str, messages: list[dict[str, str]]) -> str:
    number = int(messages[-1]["content"].removeprefix("What is ").rstrip("?"))
    if number in FAILING:
        raise AzureError(413, "RequestTooLarge", "The request is too large.")
    return f"It is {number}."


@pytest.fixture
def recipe(azure: FakeAzure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AzureRecipe:
    """phi-azure with version 1 deployed."""
    monkeypatch.setenv("FINETUNE_PHI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PF_HOME_DIRECTORY", str(tmp_path / "pf"))
    recipe = make_workspace(azure)
    with answered(yes=True):
        deploy.run(AzureSession(recipe))
    azure.answer = answer
    azure.clear()
    return recipe


def evaluate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "evaluation", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=1200,
        check=False,
    )


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def test_rows_over_machines_are_the_rows_of_a_local_run(
    azure: FakeAzure, recipe: AzureRecipe, tmp_path: Path
) -> None:
    data = write(tmp_path / "rows.jsonl", ROWS)
    runs = tmp_path / "home" / "runs"
    told = evaluate(*WHOLE, "--data", str(data), "--name", "spread")
    assert told.returncode == 0, told.stderr
    [job] = [one for one in azure.store if one.kind.endswith("/jobs")]
    components = {node["componentId"] for node in job.properties["jobs"].values()}
    assert len(components) == 2
    assert job.hidden["reports"]["ask"]["by_machine"].count(0) == 0
    assert sum(job.hidden["reports"]["ask"]["by_machine"]) == ROWS - len(FAILING)
    spread = runs / "spread" / recipe.connection
    summary = json.loads((spread / "summary.json").read_text())
    assert (summary["n"], summary["error"], summary["unscored"]) == (ROWS, 2, 0)

    assert run_setup("connect", "--recipe", "phi-azure").returncode == 0
    asked = ["run", recipe.connection, "--engine", "plain", "--no-general", "--data", str(data)]
    assert evaluate(*asked, "--name", "here").returncode == 0
    here = runs / "here" / recipe.connection
    for one, other in zip(rows_of(spread), rows_of(here), strict=True):
        assert one["answer"] == other["answer"]
        assert (one["error"] is None) == (other["error"] is None)
        seconds = ("seconds", "latency")
        assert {k: v for k, v in one["scores"].items() if not k.startswith(seconds)} == {
            k: v for k, v in other["scores"].items() if not k.startswith(seconds)
        }
    compared = evaluate("compare", "here", "spread")
    assert compared.returncode == 0, compared.stderr
    key = endpoint_of(azure).hidden["primaryKey"]
    assert key not in "".join(
        p.read_text("utf-8", "replace") for p in runs.rglob("*") if p.is_file()
    )
    assert azure.violations == []
