"""One job on engine plain without promptflow, and on promptflow's executor, to be compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from evaluation.engines import plain, worker
from evaluation.engines.graph import Graph
from setup.common import connection_store
from tests.home import ROOT
from tests.scripted.pf_home import isolated_home
from tests.scripted.server import Server, running

KEY = "k3y-of-the-engines-77af"
SAMPLE = ROOT / "data" / "sample" / "test.jsonl"

# Before the first import of promptflow, which is why that happens inside the fixtures.
isolated_home()


@dataclass
class Job:
    """A flow over ``rows``; ``connections`` are those of its nodes, by the names in the store."""

    flow: str
    rows: list[dict[str, Any]]
    columns: dict[str, Any] = field(default_factory=dict)
    connections: dict[str, str] = field(default_factory=dict)
    variant: str = ""
    workers: int = 8
    processes: int = 1
    text_metrics: bool = False

    @property
    def folder(self) -> Path:
        return ROOT / "flows" / self.flow if "/" not in self.flow else Path(self.flow)


@dataclass
class Done:
    """What a run came to: outputs or ``(class, text)`` by line, and its metrics."""

    lines: list[Any]
    metrics: dict[str, float]
    outcomes: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Machine:
    """A home with the store of connections, and the endpoint they lead to."""

    home: Path
    server: Server

    def connect(self, name: str, kind: str = "CustomConnection", **configs: str) -> None:
        """Keep a connection to the server in both stores, its key in a file."""
        keys = self.home / "keys.json"
        keys.write_text(json.dumps({"scoring": KEY}))
        secret = "key" if kind == "CustomConnection" else "api_key"
        with mock.patch.dict(os.environ, {"FINETUNE_PHI_HOME": str(self.home)}):
            place = {secret: connection_store.InFile(keys, "scoring")}
            connection_store.keep(name, configs, place, kind)

    def start(self, job: Job) -> subprocess.CompletedProcess[str]:
        """The job on engine plain, as a process without promptflow."""
        content = vars(job) | {"flow": str(job.folder), "sources": {"data": job.rows}}
        path = self.home / "job.json"
        path.write_text(json.dumps(content))
        return subprocess.run(
            [sys.executable, "-m", "tests.evaluation.engines.without_promptflow", str(path)],
            cwd=ROOT,
            env=os.environ | {"FINETUNE_PHI_HOME": str(self.home)},
            capture_output=True,
            encoding="utf-8",
            timeout=150,
            check=False,
        )

    def plain(self, job: Job) -> Done:
        """The outcome of the job on engine plain."""
        done = self.start(job)
        assert done.returncode == 0, done.stderr
        content = json.loads(done.stdout)
        outcomes = content["outcomes"]
        assert len(outcomes) == len(job.rows)
        lines = [_as_tuple(worker.tell(outcome)) for outcome in outcomes]
        return Done(lines, content["metrics"], outcomes)

    def promptflow(self, job: Job) -> Done:
        """The same on promptflow's own executor."""
        lines = plain.map_columns(
            Graph.read(job.folder), job.columns, {"data": dict(enumerate(job.rows))}
        )
        with mock.patch.dict(os.environ, {"FINETUNE_PHI_HOME": str(self.home)}):
            draft = self.home / "flow.dag.yaml"
            done = worker.run_promptflow(job.folder, job.variant, list(lines.values()), draft)
        return Done([_as_tuple(line) for line in done["lines"]], done["metrics"])

    @property
    def store(self) -> Path:
        return self.home / "connections.json"

    def asked(self) -> Counter[str]:
        """The requests since the last call: paths and bodies, without their order."""
        seen = [(r.path, r.body) for r in self.server.received]
        self.server.received.clear()
        return Counter(json.dumps(one, sort_keys=True) for one in seen)


def _as_tuple(line: Any) -> Any:
    return tuple(line) if isinstance(line, list) else line


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with running() as server:
        yield Machine(tmp_path, server)


def sample() -> list[dict[str, Any]]:
    """The rows of the test split."""
    return [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
