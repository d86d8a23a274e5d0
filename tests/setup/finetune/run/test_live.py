"""The curve in MLflow while a run goes on: of this machine's registry, and of a job in Azure."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from setup.common import console
from setup.local.registry import live_curve
from tests.home import ROOT
from tests.setup.finetune.conftest import MakeMachine
from tests.setup.finetune.machine import Machine, history

_PATIENCE = 150.0  # seconds; MLflow is imported beside a run that wants all cores
_LONG = ("finetune.epochs=240", "finetune.patience=0", "finetune.learning_rate=0.0001")


def _ask(machine: Machine, query: str) -> list[tuple[Any, ...]]:
    database = machine.home.path / "registry/mlflow.db"
    if not database.is_file():
        return []
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as registry:
        try:
            return registry.execute(query).fetchall()
        except sqlite3.OperationalError:  # it is being made
            return []


def _wait(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _runs(machine: Machine) -> list[tuple[Any, ...]]:
    query = "select run_uuid, status from runs where lifecycle_stage = 'active'"
    return _ask(machine, query)


def _points(machine: Machine, name: str) -> list[int]:
    query = f"select step from metrics where key = '{name}' order by step"  # noqa: S608
    return [row[0] for row in _ask(machine, query)]


def _losses(run: Path, name: str) -> list[int]:
    return [row["step"] for row in history(run) if name in row]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The curve is shown from the first step of a run, and not from its tenth second on."""
    monkeypatch.setattr(live_curve, "_SHOWN_AFTER", 0)


@pytest.mark.usefixtures("at_once")
def test_registered_run_is_the_one_that_was_shown(make_machine: MakeMachine) -> None:
    machine = make_machine()
    run = machine.finetune()
    _wait(lambda: [status for _, status in _runs(machine)] == ["FINISHED"])
    for name in ("loss", "held_out_loss"):
        assert _points(machine, name) == _losses(run, name)
    shown = _runs(machine)
    done = machine.setup("register")
    assert done.returncode == 0, done.stderr
    assert _runs(machine) == shown
    assert _ask(machine, "select run_id from model_versions") == [shown[0][:1]]
    for name in ("loss", "held_out_loss"):
        assert _points(machine, name) == _losses(run, name)
    (predicted,) = _ask(machine, "select value from metrics where key = 'predicted_seconds'")
    assert predicted[0] > 0


@pytest.mark.slow
@pytest.mark.minutes
def test_killed_run_goes_on_in_the_same_one(make_machine: MakeMachine) -> None:
    machine = make_machine()
    process = machine.start(*_LONG)
    _wait(lambda: len(_points(machine, "loss")) > 2)
    assert [status for _, status in _runs(machine)] == ["RUNNING"]
    process.kill()
    process.join()
    _wait(lambda: [status for _, status in _runs(machine)] == ["FAILED"])
    before = _runs(machine)[0][0]
    run = machine.finetune(*_LONG)
    _wait(lambda: _runs(machine) == [(before, "FINISHED")])
    for name in ("loss", "held_out_loss"):
        assert _points(machine, name) == _losses(run, name)


def test_short_run_waits_for_no_mlflow_and_is_registered_with_its_curve(
    make_machine: MakeMachine,
) -> None:
    machine = make_machine()
    run = machine.finetune()
    assert not _runs(machine)
    assert machine.setup("register").returncode == 0
    assert [status for _, status in _runs(machine)] == ["FINISHED"]
    assert _points(machine, "held_out_loss") == _losses(run, "held_out_loss")


@pytest.mark.usefixtures("at_once")
def test_training_goes_on_where_mlflow_cannot_be_written(
    make_machine: MakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = make_machine()
    registry = machine.home.path / "registry"
    registry.parent.mkdir(parents=True, exist_ok=True)
    registry.write_text("a file in the place of the folder")
    # A thread of its own tells it, whose output no capture of the command's thread has.
    monkeypatch.setattr(console.err, "file", told := io.StringIO())
    done = machine.setup("finetune")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in told.getvalue().splitlines() if "not in MLflow" in line]
    assert line.startswith("fine-tuning: the curve is not in MLflow: ")


class _Server(HTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.points: list[tuple[str, int]] = []
        self.tokens: set[str] = set()


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        known = [{"key": "loss", "value": 3.0, "timestamp": 1, "step": 5}]
        self._answer({"run": {"data": {"metrics": known}}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert body["run_id"] == "the-job"
        self.server.points += [(metric["key"], metric["step"]) for metric in body["metrics"]]
        self._answer({})

    def _answer(self, content: dict[str, Any]) -> None:
        self.server.tokens.add(self.headers["Authorization"])
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def _serving() -> Iterator[_Server]:
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def _follow(folder: Path, uri: str) -> subprocess.CompletedProcess[str]:
    job = {
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_TRACKING_TOKEN": "of-the-job",
        "MLFLOW_RUN_ID": "the-job",
    }
    command = [sys.executable, "-m", "setup.finetune.run.job_curve", str(folder)]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | job,
        input="FINISHED",
        capture_output=True,
        text=True,
        check=False,
    )


def test_job_writes_to_its_own_server_and_no_point_twice(tmp_path: Path) -> None:
    rows = [
        {"step": 0, "epoch": 0, "seconds": 1, "tokens": 0, "held_out_loss": 3.5},
        *({"step": n, "epoch": 1, "seconds": n, "tokens": 9 * n, "loss": 2} for n in (5, 10)),
    ]
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with _serving() as server:
        done = _follow(tmp_path, f"http://127.0.0.1:{server.server_port}/mlflow/v1.0/x")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert server.points == [("loss", 10), ("held_out_loss", 0), ("tokens_per_second", 10)]
    assert server.tokens == {"Bearer of-the-job"}


def test_job_says_in_one_line_that_its_server_is_gone(tmp_path: Path) -> None:
    done = _follow(tmp_path, "http://127.0.0.1:9/mlflow")
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1
    assert "not in MLflow" in done.stdout
    assert "of-the-job" not in done.stdout + done.stderr
