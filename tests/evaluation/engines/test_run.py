"""A run on engine plain: stopped, gone on with, on processes of which one dies."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.evaluation.engines.test_refusals import FLOW, NODE
from tests.home import ROOT

TOOL = """
import os

from promptflow.core import log_metric, tool

@tool
def one(text: str, texts: list = None):
    if texts is not None:
        log_metric("lines", len(texts))
    if text == "die":
        os._exit(9)
    print("noise")
    return text
"""
LATE = NODE | {
    "name": "late",
    "aggregation": True,
    "inputs": {"text": "", "texts": "${one.output}"},
}
SCRIPT = """
import json, sys, threading
from pathlib import Path
from evaluation.ask.journal import Outcome
from evaluation.engines.plain import Flow
from setup.common.errors import FixableError

if __name__ == "__main__":
    flow, texts, known, stop_after, processes = json.loads(sys.argv[1])
    stopping, seen = threading.Event(), []

    def see(outcome):
        seen.append(outcome.line)
        if len(seen) == stop_after:
            stopping.set()

    lines = {number: {"text": text} for number, text in enumerate(texts)}
    done = {n: Outcome(n, {"text": "x"}, aggregation={"${one.output}": "x"}) for n in known}
    run = Flow(Path(flow)).run
    try:
        said = run(lines, see, workers=2, processes=processes, known=done, stopping=stopping)
    except FixableError as error:
        said = str(error)
    print(json.dumps([said, sorted(seen)]))
"""


def run(
    folder: Path, texts: list[str], known: tuple[int, ...] = (), stop: int = 0, processes: int = 1
) -> tuple[Any, list[int]]:
    dag = FLOW | {"nodes": [NODE | {"inputs": {"text": "${inputs.text}"}}, LATE]}
    (folder / "flow.dag.yaml").write_text(yaml.safe_dump(dag))
    (folder / "one.py").write_text(TOOL.replace("text: str", 'text: str = ""'))
    script = folder / "script.py"
    script.write_text(SCRIPT)
    given = json.dumps([str(folder), texts, known, stop, processes])
    done = subprocess.run(
        [sys.executable, str(script), given],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        encoding="utf-8",
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, seen = json.loads(done.stdout)  # and nothing of what the node printed
    return said, seen


@pytest.mark.parametrize("processes", [1, 2])
def test_known_lines_are_not_run_again_and_count(tmp_path: Path, processes: int) -> None:
    said, seen = run(tmp_path, ["a", "b", "c"], known=(1,), processes=processes)
    assert said == {"lines": 3}
    assert seen == [0, 2]


@pytest.mark.parametrize("processes", [1, 2])
def test_stopping_begins_no_other_line(tmp_path: Path, processes: int) -> None:
    said, seen = run(tmp_path, ["a"] * 5000, stop=1, processes=processes)
    assert said == f"stopped after {len(seen)} of 5000 lines"
    assert len(seen) < 5000


def test_a_process_that_dies_is_one_line(tmp_path: Path) -> None:
    said, seen = run(tmp_path, ["a", "b", "die", "c"], processes=2)
    assert said.startswith("a process of the run died after ")
    assert 2 not in seen
