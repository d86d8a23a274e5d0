"""Batch and evaluation run in the project, through the real promptflow.azure."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from evaluation.in_project.run import ProjectRun, run_in_project
from setup.azure.client.money import answered
from setup.azure.client.names import derive_names
from setup.azure.client.session import AzureSession
from setup.common import console, flow_folder
from setup.common.errors import FixableError
from setup.recipe.azure import AzureRecipe
from tests.azure.fake import FakeAzure
from tests.azure.fake.flow_runs import echo
from tests.azure.fake.flow_service import flow_service
from tests.azure.fake.subscription import SUBSCRIPTION
from tests.azure.made_project import add_connection, add_serving, copy_flows, make_project

ROWS = 4


@pytest.fixture
def recipe(
    request: pytest.FixtureRequest,
    azure: FakeAzure,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AzureRecipe:
    """The recipe of a project with a connection to an endpoint that serves."""
    whole = getattr(request, "param", False)
    monkeypatch.setattr(flow_folder, "FLOWS", copy_flows(tmp_path / "flows", whole))
    monkeypatch.setenv("FINETUNE_PHI_HOME", str(tmp_path / "home"))
    recipe = make_project(azure)
    add_connection(azure, recipe)
    add_serving(azure, recipe, "phi:1")
    return recipe


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four questions."""
    rows = [
        {"question": f"Q{n}?", "ground_truth": f"You asked: Q{n}?" if n else "else", "messages": []}
        for n in range(ROWS)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def go(recipe: AzureRecipe, data: Path, **given: Any) -> ProjectRun:
    """Run it, having agreed to the price."""
    with answered(yes=True):
        return run_in_project(AzureSession(recipe), data, **given)


@pytest.mark.parametrize("recipe", [True], indirect=True)
def test_rows_are_asked_scored_and_not_asked_again(
    azure: FakeAzure,
    recipe: AzureRecipe,
    data: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flow_service(azure).polls = 4
    told = io.StringIO()
    monkeypatch.setattr(console.err, "file", told)
    done = go(recipe, data)
    assert (done.n, done.ok, done.error, done.changed) == (ROWS, ROWS, 0, True)
    assert done.metrics == {"fact_recall": 0.75}
    assert done.text().splitlines()[0] == f"run {done.chat}: n=4 ok=4 error=0"
    assert "fact recall: 0.75" in done.text()
    assert done.links["answers"].startswith("https://ai.azure.com/prompts/trace/run/")
    service = flow_service(azure)
    chat, scores = service.runs[done.chat], service.runs[done.evaluation]
    assert chat.body["runtimeName"] == "automatic"
    assert chat.body["connections"] == {"chat": {"connection": recipe.connection}}
    assert scores.body["variantRunId"] == done.chat
    assert [row["usage"] for row in scores.rows] == [{"prompt_tokens": 3, "seconds": 0.5}] * ROWS
    assert scores.body["inputsMapping"]["usage"] == "${data.usage}"
    assert "scoring_client/client.py" in chat.flow
    assert not [path for path in chat.flow if "__pycache__" in path or path.startswith(".")]
    assert list(chat.rows[0]) == [
        "id", "question", "chat_history", "ground_truth", "facts", "must_decline"
    ]  # fmt: skip
    assert capsys.readouterr() == ("", "")
    statuses = [line for line in told.getvalue().splitlines() if line.startswith("run phi")]
    assert {request.status for request in azure.find("/logContent$")} == {200}
    assert statuses == [
        f"run {name}: {status}"
        for name in (done.chat, done.evaluation)
        for status in ("Running", "Completed")
    ]
    assert azure.violations == []
    assert azure.unknown_routes == []

    azure.clear()
    again = go(recipe, data)
    assert (again.chat, again.evaluation, again.changed) == (done.chat, done.evaluation, False)
    assert azure.find("PUT|/submit|/resume") == []
    add_serving(azure, recipe, "phi:2")
    assert go(recipe, data, limit=2).chat not in (done.chat, "")


def test_another_model_or_other_rows_are_another_run(
    azure: FakeAzure, recipe: AzureRecipe, data: Path
) -> None:
    flow_service(azure).broken += ["stop here"] * 3
    for change in ({}, {"limit": 2}, {"model": "phi:2"}):
        if "model" in change:
            add_serving(azure, recipe, str(change.pop("model")))
        with pytest.raises(FixableError, match="stop here"):
            go(recipe, data, **change)
    assert len(flow_service(azure).runs) == 3
    assert not [name for name in flow_service(azure).runs if name.endswith("-2")]


def test_too_many_failed_lines_are_asked_again_by_the_same_command(
    azure: FakeAzure, recipe: AzureRecipe, data: Path
) -> None:
    lines = flow_service(azure).lines
    lines.fails["Q[12]"] = "ThrottledError: 429"
    with pytest.raises(FixableError) as caught:
        go(recipe, data)
    line = str(caught.value)
    assert "n=4 ok=2 error=2: 50.0% of the lines" in line
    assert "the last with ThrottledError: 429" in line
    assert "\n" not in line
    assert len(flow_service(azure).runs) == 1

    lines.fails.clear()
    asked: list[str] = []

    def answer(inputs: dict[str, Any]) -> dict[str, Any]:
        asked.append(inputs.get("question", ""))
        return echo(inputs)

    lines.answer = answer
    done = go(recipe, data)
    assert done.chat.endswith("-2")
    assert (done.ok, done.error) == (4, 0)
    assert [question for question in asked if question] == ["Q1?", "Q2?"]
    assert azure.find("/BulkRuns/resume")[0].contract in ("promptflow ResumeBulkRunRequest", "")


def test_failed_lines_below_the_rate_are_counted(
    azure: FakeAzure, recipe: AzureRecipe, data: Path
) -> None:
    flow_service(azure).lines.fails["Q1"] = "ReplyEmptyError"
    done = go(recipe, data, max_error_rate=0.25)
    assert (done.n, done.ok, done.error) == (4, 3, 1)
    assert "ok=3 error=1" in done.text()


def test_a_run_that_is_under_way_is_followed_and_lost_answers_do_no_harm(
    azure: FakeAzure, recipe: AzureRecipe, data: Path
) -> None:
    azure.fail("POST .*/BulkRuns/submit", how="lost")
    azure.fail("GET .*/childRuns", how="forbidden")
    with pytest.raises(FixableError, match="403") as caught:
        go(recipe, data)
    assert "\n" not in str(caught.value)
    assert len(flow_service(azure).runs) == 1
    azure.fail("POST .*/rundata", times=2, how="unavailable")
    done = go(recipe, data)
    assert len(flow_service(azure).runs) == 2
    assert (done.ok, done.changed) == (ROWS, True)


def test_what_a_step_before_leaves_is_asked_for_first(azure: FakeAzure, data: Path) -> None:
    recipe = make_project(azure)
    with pytest.raises(FixableError, match=r"no connection phi.*python -m setup connect"):
        go(recipe, data)
    add_connection(azure, recipe)
    endpoint = derive_names(recipe, SUBSCRIPTION).endpoint
    with pytest.raises(FixableError, match=rf"endpoint {endpoint} is not there.*setup deploy"):
        go(recipe, data)
    assert azure.writes == []


def test_nothing_is_submitted_unasked(azure: FakeAzure, recipe: AzureRecipe, data: Path) -> None:
    with pytest.raises(FixableError) as caught:
        run_in_project(AzureSession(recipe), data)
    assert "--yes" in caught.value.fix
    assert "compute session of project phi-project" in caught.value.what
    assert flow_service(azure).runs == {}


@pytest.mark.parametrize("how", ["none kept", "refused"])
def test_a_record_without_usage_is_scored_without_and_said(
    azure: FakeAzure,
    recipe: AzureRecipe,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    told = io.StringIO()
    monkeypatch.setattr(console.err, "file", told)
    if how == "refused":
        azure.fail("GET .*/nodeRuns/usage", how="forbidden")
    else:
        flow_service(azure).lines.nodes.clear()
    done = go(recipe, data)
    assert (done.ok, done.metrics) == (ROWS, {"fact_recall": 0.75})
    said = f"run {done.chat}: no latency and no tokens among the metrics, for "
    assert [line.count(said) for line in told.getvalue().splitlines()].count(1) == 1
    assert [row["usage"] for row in flow_service(azure).runs[done.evaluation].rows] == [{}] * ROWS

    flow_service(azure).lines.nodes["usage"] = lambda _: {"seconds": 1}
    again = go(recipe, data)
    assert again.chat == done.chat
    assert again.evaluation != done.evaluation
    rows = flow_service(azure).runs[again.evaluation].rows
    assert [row["usage"] for row in rows] == [{"seconds": 1}] * ROWS


def test_usage_is_read_page_by_page_and_is_of_its_own_line(
    azure: FakeAzure, recipe: AzureRecipe, tmp_path: Path
) -> None:
    data = tmp_path / "many.jsonl"
    data.write_text("".join(json.dumps({"question": "Q" * n}) + "\n" for n in range(1, 61)))
    flow_service(azure).lines.fails["^{'question': 'QQQQ'"] = "ThrottledError"
    done = go(recipe, data)
    rows = flow_service(azure).runs[done.evaluation].rows
    known = [row["usage"].get("prompt_tokens") for row in rows]
    assert known == [1, 2, 3, None, *range(5, 61)]
