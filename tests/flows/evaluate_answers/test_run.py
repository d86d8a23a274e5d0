"""A run of the flow through promptflow: lines, nulls, failures and the run's metrics."""

from __future__ import annotations

import importlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import sacrebleu

from flows.evaluate_answers.answer_metrics import score_answer, summarize_scores
from tests.flows.evaluate_answers.conftest import Row
from tests.home import ROOT

INPUTS = ("answer", "ground_truth", "facts", "must_decline", "usage")


@dataclass(frozen=True)
class Finished:
    """What promptflow keeps of the run."""

    metrics: dict[str, float]
    scores: dict[int, dict[str, float | None]]
    errors: dict[int, str]


@pytest.fixture(scope="module")
def finished(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The rows, one of nulls and one that cannot be scored, as ``pf run create`` runs them."""
    nulls = {"answer": "ok", "ground_truth": "", "facts": None, "must_decline": None, "usage": None}
    broken = rows[0] | {"facts": [9]}
    folder = tmp_path_factory.mktemp("run")
    data, flow = folder / "rows.jsonl", folder / "uploaded"
    ignored = shutil.ignore_patterns("__pycache__", ".promptflow")
    shutil.copytree(ROOT / "flows" / "evaluate_answers", flow, ignore=ignored)
    lines = [json.dumps(row) for row in [*rows, nulls, broken]]
    data.write_text("\n".join(lines), encoding="utf-8")
    client: Any = importlib.import_module("promptflow.client").PFClient()
    run = client.run(
        flow=str(flow),
        data=str(data),
        column_mapping={name: f"${{data.{name}}}" for name in INPUTS},
        environment_variables={"PF_WORKER_COUNT": "2"},
    )
    assert run.status == "Completed"
    kept = Path(run.properties["output_path"])
    output = (kept / "flow_outputs" / "output.jsonl").read_text(encoding="utf-8").splitlines()
    error = json.loads((kept / "error.json").read_text(encoding="utf-8"))
    [failures] = error["additionalInfo"]
    return Finished(
        client.get_metrics(run),
        {line["line_number"]: line["scores"] for line in map(json.loads, output)},
        {item["line_number"]: item["error"]["message"] for item in failures["info"]["errors"]},
    )


def test_each_line_has_its_scores_nulls_included(finished: Finished, rows: list[Row]) -> None:
    expected = {number: score_answer(**row) for number, row in enumerate(rows)}
    assert {n: scores for n, scores in finished.scores.items() if n < len(rows)} == expected
    assert None in expected[0].values()
    assert finished.scores[20] == score_answer("ok")


def test_a_line_that_cannot_be_scored_says_why(finished: Finished) -> None:
    assert finished.errors == {21: "facts holds 9. Fix: give each fact as text"}


def test_metrics_of_the_run(finished: Finished, rows: list[Row]) -> None:
    columns: dict[str, list[float]] = {}
    for scores in finished.scores.values():
        for name, value in scores.items():
            columns.setdefault(name, []).extend([] if value is None else [value])
    expected = {name: mean(values) for name, values in columns.items() if values}
    pairs = [row for row in rows if row["ground_truth"]]
    answers, truths = [row["answer"] for row in pairs], [row["ground_truth"] for row in pairs]
    expected["corpus_bleu"] = sacrebleu.corpus_bleu(answers, [truths]).score
    expected["corpus_chrf"] = sacrebleu.corpus_chrf(answers, [truths]).score
    assert finished.metrics == pytest.approx(expected | {"lines": 21})
    assert "completion_tokens" not in finished.metrics
    assert 0 < finished.metrics["declined"] < 1
    assert 0 < finished.metrics["over_declined"] < 1


def test_no_lines_and_no_ground_truths() -> None:
    assert summarize_scores([], [], []) == {"lines": 0}
    lines = [score_answer("Yes."), score_answer("No, never.")]
    assert summarize_scores(lines, ["Yes.", "No, never."], ["", None]) == {
        "answer_words": 1.5,
        "lines": 2,
    }
