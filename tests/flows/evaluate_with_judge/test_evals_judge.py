"""The judges of promptflow-evals, selectable, offline, under names of their own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from flows.evaluate_with_evals_judge.evals_judging.scores import as_outputs, summarize
from tests.flows.evaluate_with_judge.conftest import MODEL, TEXTS, Ask
from tests.flows.evaluate_with_judge.judge import says
from tests.scripted.server import Server
from tests.scripted.steps import never, reply

JUDGES = ("relevance", "coherence", "fluency", "similarity", "groundedness")


def test_all_five_without_the_package_that_downloads(
    ask_evals: Ask, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.play(says("4"))
    ask_evals(evaluators="fluency")
    sys.modules["evals_judging.packages"]._load.cache_clear()
    for package in ("nltk", "promptflow.evals.evaluators"):
        monkeypatch.setitem(sys.modules, package, None)
    server.play(says("4"))
    expected = {f"evals_{name}": 4 for name in JUDGES}
    outputs = ask_evals()
    others = {name: value for name, value in outputs.items() if name.startswith("azure_")}
    assert outputs == expected | {"evals_unparsed": 0} | others
    assert len(others) == 6
    assert set(others.values()) == {None}
    assert len(server.received) == 5
    assert {request.body["model"] for request in server.received} == {MODEL}


def test_some_of_them(ask_evals: Ask, server: Server) -> None:
    server.play(says("2"))
    outputs = ask_evals(evaluators="fluency, similarity")
    assert len(server.received) == 2
    assert {name: value for name, value in outputs.items() if value is not None} == {
        "evals_fluency": 2,
        "evals_similarity": 2,
        "evals_unparsed": 0,
    }


@pytest.mark.parametrize("text", ["none", "0", "9"])
def test_what_is_no_score_is_counted(ask_evals: Ask, server: Server, text: str) -> None:
    server.play(says(text))
    outputs = ask_evals(evaluators="fluency")
    assert outputs["evals_fluency"] is None
    assert outputs["evals_unparsed"] == 1


def test_a_judge_that_fails_fails_the_line(
    ask_evals: Ask, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.play(reply({"error": {"message": "no luck"}}, 401))
    with pytest.raises(Exception, match="no luck"):
        ask_evals(evaluators="fluency")
    monkeypatch.setattr(sys.modules["evals_judging.scores"], "SECONDS", 0.1)
    server.play(never())
    with pytest.raises(Exception, match="no answer within"):
        ask_evals(evaluators="fluency")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"evaluators": "fluency,charm"}, "names no judge"),
        ({"evaluators": ""}, "names no judge"),
        ({"ground_truth": ""}, "needs context, which is blank"),
    ],
)
def test_what_cannot_be_judged(
    ask_evals: Ask, server: Server, inputs: dict[str, Any], message: str
) -> None:
    server.play(says("5"))
    with pytest.raises(Exception, match=message):
        ask_evals(**inputs)
    assert server.received == []


def test_an_azure_deployment(ask_evals: Ask, server: Server) -> None:
    server.play(says("3"))
    outputs = ask_evals(connection="judge-azure", evaluators="relevance")
    assert outputs["evals_relevance"] == 3
    assert f"/deployments/{MODEL}/" in server.received[0].path


def test_prompt_flow_runs_it(client: Any, evals_flow: Path, server: Server) -> None:
    server.play(says("3"))
    inputs = TEXTS | {"judge_model": MODEL, "evaluators": "relevance"}
    assert client.test(flow=str(evals_flow), inputs=inputs)["evals_relevance"] == 3


def test_each_package_has_columns_of_its_own() -> None:
    lines = [as_outputs({"fluency": score}, "azure") for score in (5.0, float("nan"), 0.0)]
    assert summarize(lines) == {"azure_fluency": 5.0, "azure_unparsed": 2}
    assert all(line["evals_fluency"] is None for line in lines)


def test_means_leave_out_what_was_not_scored() -> None:
    lines = [as_outputs({"fluency": score}) for score in (5.0, 2.0, float("nan"))]
    assert summarize(lines) == {"evals_fluency": 3.5, "evals_unparsed": 1}
