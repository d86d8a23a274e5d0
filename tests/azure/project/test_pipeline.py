"""An evaluation over several machines: the flows run as uploaded, and come back as a run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evaluation.in_project.pipeline_run import run_as_pipeline
from evaluation.results import Request, RunFolder
from setup.azure.client.money import answered
from setup.azure.client.session import AzureSession
from setup.azure.deploy import step as deploy
from setup.common.errors import FixableError
from setup.recipe.azure import AzureRecipe
from tests.azure.commands import run_setup
from tests.azure.fake import FakeAzure
from tests.azure.fake.messages import AzureError
from tests.azure.serving import add, endpoint_of, make_workspace
from tests.azure.trainable import listen
from tests.home import ROOT

ROWS = 206
FAILING = (7, 100)
pytestmark = pytest.mark.timeout(900)  # flows in processes of their own, on a busy machine
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
    asked = messages[-1]["content"]
    number = asked.removeprefix("What is ").rstrip("?")
    if not number.isdigit():
        return "Yes."
    if int(number) in FAILING:
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
        timeout=500,
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


def run_here(recipe: AzureRecipe, data: Path, nodes: int = 2, **given: Any) -> RunFolder:
    """The same in this process, having agreed to the price."""
    with answered(yes=True):
        return run_as_pipeline(AzureSession(recipe), Request(data=data), nodes, **given)


def jobs(azure: FakeAzure) -> list[str]:
    return [one.id.name for one in azure.store if one.kind.endswith("/jobs")]


def test_the_same_command_follows_finds_and_asks_again(
    azure: FakeAzure, recipe: AzureRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(tmp_path / "rows.jsonl", FAILING[0] + 1)
    told = listen(monkeypatch)

    def interrupt(_: float) -> None:
        if jobs(azure):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("setup.azure.client.waiting.sleep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_here(recipe, data)
    [job] = jobs(azure)
    assert f"job {job} goes on in Azure, and costs; the same command follows it" in told.getvalue()
    assert f"python -m setup cancel --recipe phi-azure {job} ends it" in told.getvalue()

    side = run_here(recipe, data)
    assert jobs(azure) == [job]
    assert (side.path.parent.name, side.summary["error"]) == (job, 1)
    failed = rows_of(side.path)[FAILING[0]]
    assert failed["error"]["type"] == "NotAnswered"
    assert (failed["answer"], failed["scores"]) == (None, {})
    assert "fact_recall" in side.summary["metrics"]

    azure.clear()
    assert run_here(recipe, data, nodes=5).summary == side.summary
    assert azure.writes == []
    azure.answer = lambda *_: "It is 0."
    again = run_here(recipe, data, again=True)
    assert jobs(azure) == [job, f"{job}-2"]
    assert (again.summary["error"], again.config["job"]) == (0, f"{job}-2")
    shutil.rmtree(again.path.parent)  # on a machine that has not brought it back yet
    assert run_here(recipe, data, again=True).summary["error"] == 0
    assert jobs(azure) == [job, f"{job}-2"]


def test_what_a_cluster_lacks_is_said(
    azure: FakeAzure, recipe: AzureRecipe, tmp_path: Path
) -> None:
    data = write(tmp_path / "rows.jsonl", 2)
    with pytest.raises(FixableError, match="--yes"):
        run_as_pipeline(AzureSession(recipe), Request(data=data), 2)
    assert azure.writes == []
    space = endpoint_of(azure).id.parent
    inner = {"computeType": "AmlCompute", "properties": {"vmSize": "Standard_DS3_v2"}}
    add(azure, f"{space}/computes/evaluation", location="eastus2", properties=inner)
    with pytest.raises(FixableError, match="cluster evaluation is there already and not ours"):
        run_here(recipe, data)
    tags = AzureSession(recipe).tags
    add(azure, f"{space}/computes/evaluation", location="x", properties=inner, tags=tags)
    with pytest.raises(FixableError, match="evaluation is of Standard_DS3_v2, the recipe says"):
        run_here(recipe, data)
    assert jobs(azure) == []


def test_nothing_answered_is_an_error_with_a_way_on(
    azure: FakeAzure, recipe: AzureRecipe, tmp_path: Path
) -> None:
    def refuse(*_: object) -> str:
        raise AzureError(413, "RequestTooLarge", "The request is too large.")

    azure.answer = refuse
    data = write(tmp_path / "rows.jsonl", 2)
    with pytest.raises(FixableError, match="answered none of the 2 rows") as caught:
        run_here(recipe, data)
    again = f"evaluation run --recipe phi-azure --nodes 2 --data {data} --retry-errors"
    assert again in caught.value.fix


def test_options_that_decide_nothing_there_are_refused() -> None:
    told = evaluate("run", "--recipe", "phi-azure", "--nodes", "2", "--engine", "plain")
    assert (told.returncode, "a pipeline takes no --engine" in told.stderr) == (1, True)
    told = evaluate("run", "--nodes", "2")
    assert "--nodes is for a recipe of target azure, and laptop is of local" in told.stderr
