"""The whole evaluation where promptflow is not installed: numbers, report, gate, judge."""

from __future__ import annotations

import json
import re
import subprocess
from statistics import fmean
from typing import Any

import pytest

from evaluation.engines.stand_in import StandIn
from tests.evaluation.exit.conftest import BASELINE, KEY, SIDES, Place, baseline_rows
from tests.home import ROOT, failed
from tests.scripted.server import running
from tests.scripted.steps import reply

SAMPLE = ROOT / "data" / "sample" / "test.jsonl"
RUN = ("run", *SIDES, "--data", str(SAMPLE), "--name", "whole", "--max-error-rate", "0")
MEASURED = "latency_seconds"
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def asked(without: Place) -> Place:
    """All rows asked and scored by engine auto."""
    without.good(*RUN, "--engine", "auto")
    return without


def lines(place: Place, side: str = "whole/phi-tuned") -> list[dict[str, Any]]:
    text = (place.home / "runs" / side / "rows.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def capped(scores: dict[str, Any]) -> dict[str, Any]:
    """The baseline is older than the end of BLEU at 100, which is a little more to a computer."""
    bleu = scores["bleu"]
    return scores | {"bleu": bleu if bleu is None else min(bleu, 100.0)}


def test_promptflow_cannot_be_found(without: Place) -> None:
    code = "import importlib.util, sys; sys.exit(bool(importlib.util.find_spec('promptflow')))"
    assert subprocess.run([without.python, "-c", code], check=False).returncode == 0


def test_rows_and_metrics_are_the_baselines(asked: Place) -> None:
    rows, expected = lines(asked), [capped(row["scores"]) for row in baseline_rows()]
    assert len(rows) == 206
    for row, scores in zip(rows, expected, strict=True):
        assert row["scores"] | {MEASURED: None} == scores | {MEASURED: None}
    summary = asked.read("whole/phi-tuned/summary.json")
    metrics = json.loads((BASELINE / "summary.json").read_text())["metrics"]
    metrics["bleu"] = fmean(scores["bleu"] for scores in expected if scores["bleu"] is not None)
    metrics[MEASURED] = summary["metrics"][MEASURED]
    assert len(metrics) == 16
    assert summary["metrics"] == metrics
    assert summary["pf_runs"] == {}
    assert asked.read("whole/phi-tuned/config.json")["engine"] == "plain"


def test_compare_report_and_gate_are_as_with_promptflow(
    asked: Place, with_promptflow: Place
) -> None:
    with_promptflow.good(*RUN, "--engine", "promptflow")
    for side in SIDES:
        copy_times(with_promptflow, asked, f"whole/{side}")
    told = {}
    for place in (with_promptflow, asked):
        done = [place.good(name, "whole", "--json") for name in ("compare", "report", "gate")]
        files = [place.home / "runs" / "whole" / name for name in ("report.html", "report.md")]
        texts = [file.read_text(encoding="utf-8") for file in files]
        texts += [each.stdout for each in done]
        told[place] = [text.replace(str(place.home), "HOME") for text in texts]
    for one, other in zip(told[with_promptflow], told[asked], strict=True):
        assert without_engine(one) == without_engine(other)
    for place, engine in ((with_promptflow, "promptflow"), (asked, "plain")):
        assert re.search(rf'<th scope="row">engine</th><td[^>]*>{engine}</td>', told[place][0])
        dropped = len(told[place][0].splitlines()) - len(without_engine(told[place][0]))
        assert dropped < 12


def copy_times(source: Place, target: Place, side: str) -> None:
    """Give the rows and the run of ``target`` the times that those of ``source`` took."""
    rows = lines(target, side)
    for row, timed in zip(rows, lines(source, side), strict=True):
        row["scores"][MEASURED] = timed["scores"][MEASURED]
    folder = target.home / "runs" / side
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary, timed = (place.read(f"{side}/summary.json") for place in (target, source))
    summary["metrics"][MEASURED] = timed["metrics"][MEASURED]
    summary |= {name: timed[name] for name in ("seconds", "lines_per_second")}
    (folder / "summary.json").write_text(json.dumps(summary))
    started = source.read(f"{side}/config.json")["started"]
    config = target.read(f"{side}/config.json") | {"started": started}
    (folder / "config.json").write_text(json.dumps(config))


def without_engine(text: str) -> list[str]:
    """The lines that do not name the engine, its packages, or a run that it keeps."""
    engine = re.compile(r"engine|Prompt flow:|promptflow|azure-ai-evaluation|\bpf(_runs| run)?\b")
    return [line for line in text.splitlines() if not engine.search(line)]


def test_a_run_goes_on_and_not_with_another_engine(asked: Place) -> None:
    done = asked.good("run", "--resume", "--name", "whole", "--json")
    assert json.loads(done.stdout)["ok"] is True
    config = asked.home / "runs" / "whole" / "phi-base" / "config.json"
    before = config.read_text()
    config.write_text(json.dumps(json.loads(before) | {"engine": "promptflow"}))
    line = failed(asked.run("run", "--resume", "--name", "whole"))
    config.write_text(before)
    assert "started with other values of engine (promptflow, now plain)" in line
    assert "Fix: --engine promptflow" in line
    line = failed(asked.run("run", "--resume", "--name", "whole", "--engine", "promptflow"))
    assert "engine promptflow needs promptflow, which is not installed" in line


def test_failed_rows_are_asked_again(without: Place, endpoint: str) -> None:
    without.keep("phi-gone", {"endpoint": endpoint, "deployment": "base"})
    some = ("--data", str(SAMPLE), "--limit", "6", "--no-general")
    without.good("run", "phi-gone", *some, "--name", "again")
    journal = without.home / "runs" / "again" / "phi-gone" / "answers.jsonl"
    first, *others = journal.read_text().splitlines()
    error = {"type": "EngineError", "message": "the model raised", "fix": ""}
    failed_line = json.loads(first) | {"outputs": None, "usage": None, "error": error}
    journal.write_text("\n".join([json.dumps(failed_line), *others]) + "\n")
    (journal.parent / "summary.json").unlink()
    without.good("run", "--retry-errors", "--name", "again")
    assert journal.read_text().splitlines()[1:6] == others
    assert len(journal.read_text().splitlines()) == 7
    assert without.read("again/phi-gone/summary.json")["error"] == 0


def test_processes_work_the_lines_off(without: Place) -> None:
    options = ("--limit", "12", "--name", "several", "--workers", "8", "--processes", "2")
    without.good("run", "phi-tuned", "--data", str(SAMPLE), *options, "--no-general")
    assert without.read("several/phi-tuned/summary.json")["ok"] == 12


def test_safety_and_a_judge(without: Place, judge: StandIn) -> None:
    without.keep("judge", {"base_url": f"{judge.url}/v1"}, "OpenAIConnection")
    options = ("--evaluator", "answers", "--evaluator", "safety", "--evaluator", "judge")
    some = ("--data", str(SAMPLE), "--limit", "6", "--judge-model", "stand-in", "--no-general")
    without.good("run", *SIDES, *options, *some, "--name", "judged")
    metrics = without.read("judged/phi-tuned/summary.json")["metrics"]
    assert {"fact_recall", "judge_correctness"} <= metrics.keys()
    done = without.good("judge", "judged", "--judge-model", "stand-in", "--json")
    assert json.loads(done.stdout)["ok"] is True


@pytest.mark.parametrize("kind", ["OpenAIConnection", "AzureOpenAIConnection"])
def test_the_judges_of_azure_ai_evaluation_have_columns_of_their_own(
    without: Place, judge: StandIn, kind: str
) -> None:
    azure = kind.startswith("Azure")
    place = {"api_base": judge.url} if azure else {"base_url": f"{judge.url}/v1"}
    without.keep(f"judge-{kind}", place, kind)
    options = (
        "--evaluator",
        "evals-judge",
        "--judge",
        f"judge-{kind}",
        "--judge-model",
        "stand-in",
    )
    some = ("--data", str(SAMPLE), "--limit", "4", "--no-general")
    judge.asked.clear()
    done = without.good("run", "phi-tuned", *options, *some, "--name", kind)
    assert "groundedness, azure-ai-evaluation" in done.stdout
    assert "promptflow-evals" not in done.stdout
    at = {request["path"].partition("?")[0] for request in judge.asked}
    assert at == {f"/{'openai/deployments/stand-in' if azure else 'v1'}/chat/completions"}
    assert len(judge.asked) == 1 + 4 * 5
    summary = without.read(f"{kind}/phi-tuned/summary.json")
    judged = {name for name in summary["scored"] if name.startswith(("azure_", "evals_"))}
    assert {name.partition("_")[0] for name in judged} == {"azure"}
    assert len(judged) == 5


def test_a_judge_of_azure_ai_evaluation_that_fails_tells_no_key(without: Place) -> None:
    judged = '{"reason": "", "score": 4, "status": "completed"}'
    good = reply({"choices": [{"message": {"role": "assistant", "content": judged}}]})
    bad = reply({"error": {"message": f"Incorrect API key provided: {KEY}"}}, status=401)
    with running() as server:
        server.play(good, bad)
        without.keep("judge-away", {"base_url": f"{server.url}/v1"}, "OpenAIConnection")
        options = ("--evaluator", "evals-judge", "--judge", "judge-away", "--judge-model", "m")
        some = ("--data", str(SAMPLE), "--limit", "2", "--no-general", "--name", "refused")
        done = without.run("run", "phi-tuned", *options, *some)
    assert done.returncode == 1
    rows = (without.home / "runs" / "refused" / "phi-tuned" / "rows.jsonl").read_text()
    assert "Incorrect API key provided: …" in rows
    for text in (done.stdout, done.stderr, rows):
        assert KEY not in text
        assert "Traceback" not in text


def test_other_commands_do_without_promptflow(asked: Place) -> None:
    runs = json.loads(asked.good("list", "--json").stdout)["runs"]
    assert {f"whole/{side}" for side in SIDES} <= {run["name"] for run in runs}
    assert "is not running" in asked.run("status", module="setup").stdout
    nodes = json.loads(asked.good("exit", "audit", "--json").stdout)["nodes"]
    assert {node["plain"] for node in nodes} == {"runs"}
    told = asked.run("doctor", module="setup").stdout
    assert "ok    packages: all but promptflow, without which engine plain runs" in told
    line = failed(asked.run("chat", module="setup"))
    assert "the chat page is promptflow's, which is not installed" in line
