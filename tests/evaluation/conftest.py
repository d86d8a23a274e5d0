"""The evaluation command in this process, its connections and runs in folders of the tests' own."""

from __future__ import annotations

import gc
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import orjson
import pytest

from setup.common import console
from tests.evaluation.chat import ChatServer, chatting
from tests.home import ROOT
from tests.scripted.pf_home import isolated_home

KEY = "k3y-of-the-evaluation-41c0"
Done = subprocess.CompletedProcess[str]

# Before the first import of promptflow, which is why that happens inside the fixtures.
isolated_home()


@dataclass
class Machine:
    """``python -m evaluation`` with ``home`` as its home.

    Only with ``general`` are the general questions asked, which are many.
    """

    home: Path
    general: bool = False

    @property
    def env(self) -> dict[str, str]:
        """Its variables on top of those of :func:`isolated_home`."""
        return {"FINETUNE_PHI_HOME": str(self.home)}

    def run(self, *arguments: str) -> Done:
        """The command in this process, where promptflow is loaded once."""
        cli = importlib.import_module("evaluation.__main__")
        out, err, code = console.out.capture(), console.err.capture(), 0
        argv = ["evaluation", *self._arguments(arguments)]
        with mock.patch.dict(os.environ, self.env), mock.patch.object(sys, "argv", argv), out, err:
            try:
                cli.main()
            except SystemExit as ended:
                code = int(ended.code or 0)
        return Done(argv, code, out.get(), err.get())

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The command as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "evaluation", *self._arguments(arguments)],
            cwd=ROOT,
            env=os.environ | self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    def _arguments(self, arguments: tuple[str, ...]) -> list[str]:
        left_out = arguments[:1] == ("run",) and not self.general
        return [*arguments, *(["--no-general"] if left_out else [])]

    def rows(self, run: str) -> list[dict[str, Any]]:
        """rows.jsonl of a run."""
        content = (self.home / "runs" / run / "rows.jsonl").read_bytes()
        return [orjson.loads(line) for line in content.splitlines()]

    def answered(self, run: str) -> int:
        """How many lines of a run that goes on have an outcome on disk."""
        journal = self.home / "runs" / run / "answers.jsonl"
        return journal.read_bytes().count(b"\n") if journal.is_file() else 0

    def summary(self, run: str) -> dict[str, Any]:
        """summary.json of a run."""
        content: dict[str, Any] = json.loads(
            (self.home / "runs" / run / "summary.json").read_text()
        )
        return content

    def data(self, rows: Iterable[dict[str, Any]], name: str = "data.jsonl") -> Path:
        """A data file with these rows."""
        path = self.home / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    """The endpoint of the connection ``one``, which asks four questions at a time."""
    with chatting() as server:
        connect("one", server)
        yield server


def connect(name: str, server: ChatServer, **configs: str) -> None:
    """Create or update a connection to ``server``."""
    gc.collect()  # promptflow leaves its database sessions to it, and has 15 of them
    client = importlib.import_module("promptflow.client").PFClient()
    custom = importlib.import_module("promptflow.entities").CustomConnection
    given = {"endpoint": f"{server.server.url}/score", **configs}
    client.connections.create_or_update(custom(name=name, configs=given, secrets={"key": KEY}))


def metrics_of(run: str) -> dict[str, float]:
    """What ``pf run show-metrics`` prints for a run."""
    client = importlib.import_module("promptflow.client").PFClient()
    return dict(client.get_metrics(run))


def failed(done: Done) -> str:
    """The one line of a failure that the user can fix."""
    assert done.returncode == 1, done.stdout
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]
