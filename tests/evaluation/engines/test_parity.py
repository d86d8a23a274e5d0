"""The comparison of engines from the command line: nothing for equal ones, exit 3 for any fault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.engines.conftest import sample
from tests.evaluation.engines.mutant import RESULT, WIRE
from tests.home import ROOT

AGENTS = ROOT / ".venv-agents" / "bin" / "python"


def run(home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """``parity`` with runs in a folder of the test's own."""
    return subprocess.run(
        [sys.executable, "-m", "evaluation", "parity", "--json", *options],
        cwd=ROOT,
        env=os.environ | {"FINETUNE_PHI_HOME": str(home)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def found(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(done.stdout)
    return content


@pytest.mark.timeout(400)
def test_both_engines_are_equal(tmp_path: Path) -> None:
    done = run(tmp_path, "--name", "first")
    content = found(done)
    assert content["differences"] == {}
    assert done.returncode == 0, done.stderr
    assert content["cases"]["requests on the wire"] == 206 + 8 + 24
    assert content["cases"]["scores of answers"] == 206
    assert len(content["commit"]) == 40
    assert content["sha256"].keys() == {"flows", "locks"}
    folder = tmp_path / "runs" / "parity-first"
    assert json.loads((folder / "parity.json").read_text()) == content
    assert (folder / "parity.md").read_text().count("| equal |") == len(content["cases"])


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some rows, one with a history."""
    rows = sample()
    with_history = next(row for row in rows if row["chat_history"])
    path = tmp_path_factory.mktemp("few") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows[:3], with_history]))
    return path


def differences(home: Path, data: Path, fault: str) -> dict[str, str]:
    """Those of engine plain from itself with a fault."""
    faulty = home / "python"
    faulty.write_text(
        f'#!/bin/sh\nexec {sys.executable} -m tests.evaluation.engines.mutant "{fault}" "$@"\n'
    )
    faulty.chmod(0o755)
    done = run(home, "--engines", f"plain,plain@{faulty}", "--data", str(data))
    assert done.returncode == 3, done.stderr
    content: dict[str, str] = found(done)["differences"]
    assert all("\n-" in text and "\n+" in text for text in content.values())
    return content


@pytest.mark.parametrize("fault", WIRE)
def test_another_request_is_caught(tmp_path: Path, few: Path, fault: str) -> None:
    assert "requests on the wire" in differences(tmp_path, few, fault)


def test_a_row_lost_an_error_renamed_and_a_score_moved_are_caught(
    tmp_path: Path, few: Path
) -> None:
    assert differences(tmp_path, few, "results").keys() == RESULT.keys()


@pytest.mark.skipif(not AGENTS.is_file(), reason="run: make agents")
def test_the_agent_asks_as_the_flow_does(tmp_path: Path, few: Path) -> None:
    done = run(tmp_path, "--engines", "promptflow,plain,agent", "--data", str(few))
    content = found(done)
    assert content["differences"] == {}
    assert done.returncode == 0, done.stderr
    cases = {name: count for name, count in content["cases"].items() if name.startswith("agent")}
    told = {"requests on the wire": 4 + 8, "answers of the stand-in": 4, "errors": 8}
    assert cases == {f"agent: {name}": count for name, count in told.items()}
    assert content["engines"] == ["promptflow", "plain", "agent"]


@pytest.mark.skipif(not AGENTS.is_file(), reason="run: make agents")
def test_an_agent_that_drops_a_turn_is_caught(tmp_path: Path, few: Path) -> None:
    """Its environment has a fault: the last turn of a history is lost on its way in."""
    faulty = tmp_path / "python"
    forget = "import json, sys; rows = [json.loads(line) for line in sys.stdin]; "
    forget += "[row.update(chat_history=row['chat_history'][:-1]) for row in rows]; "
    forget += "[print(json.dumps(row)) for row in rows]"
    faulty.write_text(f'#!/bin/sh\n{sys.executable} -c "{forget}" | {AGENTS} "$@"\n')
    faulty.chmod(0o755)
    done = run(tmp_path, "--engines", f"plain,agent@{faulty}", "--data", str(few))
    assert done.returncode == 3, done.stderr
    assert "requests on the wire" in found(done)["differences"]


def test_engines_that_there_are_not(tmp_path: Path) -> None:
    done = run(tmp_path, "--engines", "plain,other")
    assert done.returncode == 1
    assert (
        found(done)["fix"]
        == "name two or more of: promptflow, plain, agent; agent not as the first"
    )
