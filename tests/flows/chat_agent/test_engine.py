"""Engine agent: `evaluation run` asks the chat flow's twin, and evaluates as engine plain does."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from evaluation.engines import agent_run
from evaluation.engines.agent_run import ask_twin
from evaluation.engines.graph import Graph
from evaluation.engines.stand_in import MODES, StandIn, standing_in
from setup.common import connection_store
from setup.common.errors import FixableError
from tests.home import ROOT, run_module

AGENTS = ROOT / ".venv-agents" / "bin" / "python"
pytestmark = pytest.mark.skipif(not AGENTS.is_file(), reason="run: make agents")
KEY = "k3y-of-the-twin-22c8"
SAMPLE = ROOT / "data" / "sample" / "test.jsonl"


@dataclass
class Place:
    """A home with the connection ``phi-one`` to an endpoint that answers by rule."""

    home: Path
    server: StandIn

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``python -m evaluation run phi-one`` there."""
        return run_module(self.home, "evaluation", "run", *arguments)

    def asked(self, name: str, *arguments: str) -> Counter[str]:
        """The requests of a run ``name`` over some rows, one with a history."""
        self.server.asked.clear()
        some = ("--data", str(SAMPLE), "--limit", "12", "--name", name, "--no-general")
        done = self.run("phi-one", *some, *arguments)
        assert done.returncode == 0, done.stderr
        return Counter(json.dumps(request, sort_keys=True) for request in self.server.asked)

    def read(self, path: str) -> Any:
        """JSON below the runs folder."""
        return json.loads((self.home / "runs" / path).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with standing_in() as server:
        home = tmp_path_factory.mktemp("home")
        (home / "keys.json").write_text(json.dumps({"scoring": KEY}))
        secrets = {"key": connection_store.InFile(home / "keys.json", "scoring")}
        with mock.patch.dict(os.environ, {"FINETUNE_PHI_HOME": str(home)}):
            configs = {"endpoint": f"{server.url}/score", "contract": "score"}
            connection_store.keep("phi-one", configs, secrets)
        yield Place(home, server)


def test_a_run_is_as_on_engine_plain(place: Place) -> None:
    for name, variant in (("whole", ""), ("varied", "${chat.varied}")):
        options = ("--variant", variant)
        plain = place.asked(f"{name}-plain", "--engine", "plain", *options)
        assert place.asked(f"{name}-agent", "--engine", "agent", *options) == plain
    summaries = [place.read(f"whole-{e}/phi-one/summary.json") for e in ("plain", "agent")]
    timed = ("latency_seconds",)
    metrics = [{n: v for n, v in s["metrics"].items() if n not in timed} for s in summaries]
    assert metrics[0] == metrics[1]
    assert all(summary["metrics"][name] > 0 for summary in summaries for name in timed)
    assert place.read("whole-agent/phi-one/config.json")["engine"] == "agent"


def test_only_what_is_missing_is_asked_again(place: Place) -> None:
    place.asked("again", "--engine", "agent")
    journal = place.home / "runs" / "again" / "phi-one" / "answers.jsonl"
    *others, _ = journal.read_text().splitlines()
    journal.write_text("".join(f"{line}\n" for line in others))
    (journal.parent / "summary.json").unlink()
    place.server.asked.clear()
    assert place.run("--resume", "--name", "again").returncode == 0
    assert len(place.server.asked) == 2  # the question before row 1, and the row
    assert len(journal.read_text().splitlines()) == 12
    refused = place.run("--resume", "--name", "again", "--engine", "plain")
    assert "Fix: --engine agent" in refused.stderr


def test_errors_have_their_class_and_fix(place: Place) -> None:
    lines: dict[int, dict[str, Any]] = {n: {"question": mode} for n, mode in enumerate(MODES, 7)}
    env = {"FINETUNE_PHI_HOME": str(place.home)}
    outcomes = {outcome.line: outcome for outcome in ask_twin(lines, "phi-one", 4, env)}
    assert outcomes.keys() == lines.keys()
    failures = [outcome.error for outcome in outcomes.values()]
    assert all(failure and failure.fix and failure.kind.endswith("Error") for failure in failures)
    with pytest.raises(FixableError, match=r"ended before its result.*no connection phi-no"):
        list(ask_twin(lines, "phi-no", 4, env))


def test_a_row_that_is_none_fails_alone(place: Place) -> None:
    lines: dict[int, Any] = {
        0: {
            "question": "Is it so?",
            "chat_history": [{"inputs": {"question": "a"}, "outputs": None}],
        },
        1: {"no": "question"},
        2: {"question": "Is it?", "chat_history": "none"},
    }
    env = {"FINETUNE_PHI_HOME": str(place.home)}
    outcomes = {outcome.line: outcome for outcome in ask_twin(lines, "phi-one", 4, env)}
    assert outcomes[0].error is None
    failures = [outcomes[number].error for number in (1, 2)]
    assert [failure.kind for failure in failures if failure] == ["KeyError", "InputError"]


def test_what_the_twin_does_not_have_is_refused(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        "engine agent takes no --processes"
        in place.run(*("phi-one", "--engine", "agent", "--processes", "2")).stderr
    )
    text = (ROOT / "flows" / "chat" / "flow.dag.yaml").read_text(encoding="utf-8")
    graph = tmp_path / "flow.dag.yaml"
    for name in ("chat.py", "usage.py"):
        (tmp_path / name).write_text("")
    more = "- name: more\n  type: python\n  source: {type: code, path: chat.py}\nnode_variants:"
    for old, new, told in (
        ("node_variants:", more, "node more"),
        ("stream: false", "stream: true", "input stream of node chat"),
        ("seed: -1", "best_of: 3", "input best_of of node chat"),
    ):
        graph.write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(FixableError, match=f"has not: {told}.*--engine plain"):
            agent_run._settings(Graph.read(tmp_path))
    monkeypatch.setattr(agent_run, "REPOSITORY", tmp_path)
    with pytest.raises(FixableError, match=r"has no environment\. Fix: make agents"):
        agent_run.find_python()
