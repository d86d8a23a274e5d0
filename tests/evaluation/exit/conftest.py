"""The evaluation with Prompt flow and without it, against one endpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from evaluation.engines.stand_in import StandIn, standing_in
from setup.common import connection_store
from setup.common.connection_store import InFile
from tests.home import ROOT, run_module
from tests.scripted.pf_home import isolated_home
from tests.scripted.server import Handler, running
from tests.scripted.steps import reply

PYTHON = ROOT / ".venv-exit" / "bin" / "python"
BASELINE = ROOT / "evaluation" / "baseline"
KEY = "k3y-of-the-exit-5d02"
SIDES = ("phi-base", "phi-tuned")
_CONNECT = """
import sys
from setup.common.promptflow_store import keep_connections

endpoint, *names = sys.argv[1:]
sides = {name: {"endpoint": endpoint, "deployment": name[4:]} for name in names}
keep_connections(sides, {"key": sys.stdin.read()})
"""
Done = subprocess.CompletedProcess[str]

# Before the first import of promptflow, which is why that happens inside the fixtures.
isolated_home()


def baseline_rows() -> list[dict[str, Any]]:
    """The rows of the committed baseline."""
    return [json.loads(line) for line in (BASELINE / "rows.jsonl").open(encoding="utf-8")]


@dataclass(frozen=True)
class Place:
    """An environment, and a home of its own for runs and connections."""

    home: Path
    python: str

    def run(self, *arguments: str, module: str = "evaluation") -> Done:
        """``python -m evaluation`` there."""
        return run_module(self.home, module, *arguments, python=self.python)

    def good(self, *arguments: str, module: str = "evaluation") -> Done:
        """As :meth:`run`, of a command that has to end well."""
        done = self.run(*arguments, module=module)
        assert done.returncode == 0, done.stderr or done.stdout
        return done

    def keep(self, name: str, configs: Mapping[str, str], kind: str = "CustomConnection") -> None:
        """A connection in our own store, its key in a file."""
        keys = self.home / "keys.json"
        self.home.mkdir(exist_ok=True)
        keys.write_text(json.dumps({"scoring": KEY}))
        secret = "key" if kind == "CustomConnection" else "api_key"
        with mock.patch.dict(os.environ, {"FINETUNE_PHI_HOME": str(self.home)}):
            connection_store.keep(name, configs, {secret: InFile(keys, "scoring")}, kind)

    def read(self, path: str) -> Any:
        """JSON below the runs folder."""
        return json.loads((self.home / "runs" / path).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The URL of an endpoint with the baseline's answers; its deployment ``base`` knows nothing."""
    answers = {}
    for row in baseline_rows():
        history = row["inputs"]["chat_history"]
        asked = [turn["inputs"]["question"] for turn in history] + [row["inputs"]["question"]]
        answers[tuple(asked)] = row

    def step(handler: Handler) -> None:
        messages = handler.received.body["input_data"]["input_string"]
        asked = tuple(turn["content"] for turn in messages if turn["role"] == "user")
        row = answers.get(asked)  # none for the question before row 1
        tuned = handler.received.headers.get("azureml-model-deployment") == "tuned"
        names = ("prompt_tokens", "completion_tokens")
        usage = {name: row["scores"][name] for name in names} if row else {}
        output = row["answer"] if row and tuned else "I do not know."
        reply({"output": output, "usage": usage})(handler)

    with running() as server:
        server.play(step)
        yield f"{server.url}/score"


@pytest.fixture(scope="module")
def without(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The environment that has no promptflow, with connections to the endpoint."""
    if not PYTHON.is_file():
        pytest.skip("run: make exit")
    place = Place(tmp_path_factory.mktemp("without"), str(PYTHON))
    for name in SIDES:
        place.keep(name, {"endpoint": endpoint, "deployment": name.removeprefix("phi-")})
    return place


@pytest.fixture(scope="module")
def with_promptflow(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The environment of the tests, with the same connections in promptflow's store."""
    # In a process of its own: a keyring that this one has opened may be another test's.
    command = [sys.executable, "-c", _CONNECT, endpoint, *SIDES]
    subprocess.run(command, cwd=ROOT, input=KEY, text=True, check=True)
    return Place(tmp_path_factory.mktemp("with"), sys.executable)


@pytest.fixture(scope="module")
def judge() -> Iterator[StandIn]:
    """A judge that grades by rule."""
    with standing_in() as server:
        yield server
