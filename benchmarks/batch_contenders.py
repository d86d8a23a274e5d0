"""The commands that ``benchmarks.batch`` measures, and what one turn of each takes."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from setup.common.paths import REPOSITORY
from tests.home import free_port
from tests.scripted.pf_home import isolated_home

FLOWS = REPOSITORY / "flows"
OURS, PLAIN, PF, BARE = "ours", "plain", "pf", "bare"
_SAMPLED_EVERY = 0.5  # seconds
_ASKED = ("question=${data.question}", "chat_history=${data.chat_history}")
_SCORED = [f"{name}=${{data.{name}}}" for name in ("ground_truth", "facts", "must_decline")]
_SCORED += ["answer=${run.outputs.answer}"]
_CONNECT = """
import sys
from promptflow.client import PFClient
from promptflow.entities import CustomConnection
from setup.common.connection_store import keep

configs = {"endpoint": sys.argv[1]}
connection = CustomConnection(name="phi", configs=configs, secrets={"key": "none"})
PFClient().connections.create_or_update(connection)
keep("phi", configs, {"key": "none"})
"""


@dataclass(frozen=True)
class Contender:
    """Who sends the lines, and how many at a time; ``pf`` with 0 has its default of workers."""

    kind: str
    concurrency: int
    processes: int = 1

    @property
    def told(self) -> str:
        """As in the tables."""
        several = f" in {self.processes} processes" if self.processes > 1 else ""
        names = {
            OURS: f"ours, {self.concurrency} threads",
            PLAIN: f"ours, engine plain, {self.concurrency} threads{several}",
            PF: f"`pf run create`, {self.concurrency or 'its default of 4'} processes",
            BARE: f"bare aiohttp client, {self.concurrency} at a time",
        }
        return names[self.kind]

    def commands(self, url: str, data: Path, run: str) -> list[list[str]]:
        """What a user types."""
        many = self.concurrency
        if self.kind == BARE:
            return [_module("benchmarks.batch_client", url, data, "--concurrency", many)]
        if self.kind in (OURS, PLAIN):
            engine = "plain" if self.kind == PLAIN else "promptflow"
            given = ("phi", "--data", data, "--workers", many, "--name", run, "--engine", engine)
            return [
                _module("evaluation", "run", *given, "--no-general", "--processes", self.processes)
            ]
        scored = f"{run}-scored"
        create = ("promptflow._cli.pf", "run", "create", "--data", data, "--name")
        asking = ("--flow", FLOWS / "chat", "--column-mapping", *_ASKED)
        scoring = ("--flow", FLOWS / "evaluate_answers", "--column-mapping", *_SCORED)
        return [
            _module(*create, run, *asking),
            _module(*create, scored, *scoring, "--run", run),
        ]

    @property
    def env(self) -> dict[str, str]:
        """Variables on top of those of :func:`isolated_home`."""
        workers = {"PF_WORKER_COUNT": str(self.concurrency)}
        return workers if self.kind == PF and self.concurrency else {}


def _environment(data: Path) -> dict[str, str]:
    """A home beside the data."""
    return os.environ | {"FINETUNE_PHI_HOME": str(data.parent)}


def _module(name: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", name, *map(str, arguments)]


@dataclass(frozen=True)
class Turn:
    """One turn: seconds of it all, lines a second in its middle, bytes at its peak."""

    seconds: float
    rate: float
    peak_memory: int
    asked: str


@dataclass(frozen=True)
class Bench:
    """A mock endpoint that runs, and the rows to ask it."""

    url: str
    data: Path
    rows: int

    def take_turn(self, contender: Contender, run: str) -> Turn:
        """Run ``contender`` once.

        Raises:
            SystemExit: It failed, or the endpoint did not answer every row once.
        """
        self._report()
        started, peaks, failed, complaint = time.perf_counter(), [0], False, b""
        for command in contender.commands(f"{self.url}/score", self.data, run):
            process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=_environment(self.data) | contender.env,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            with _watching_memory(process) as peak:
                _, complaint = process.communicate()
            peaks.append(peak[0])
            failed = failed or process.returncode != 0
        seconds = time.perf_counter() - started
        report = self._report()
        if failed or len(report["answered"]) != self.rows:
            answered = f"{len(report['answered'])} of {self.rows} rows answered"
            raise SystemExit(f"{contender.told}: {answered}\n{complaint.decode()[-2000:]}")
        return Turn(seconds, steady_rate(report["answered"]), max(peaks), report["asked"])

    def _report(self) -> dict[str, Any]:
        content: dict[str, Any] = requests.get(f"{self.url}/report", timeout=10).json()
        return content


def steady_rate(answered: list[float]) -> float:
    """Lines a second between the 10th and the 90th percent of the answers.

    It is the slope of a straight line through them: answers come in waves, and a wave more or less
    at an end of the stretch must not count.
    """
    times = sorted(answered)
    middle = range(len(times) // 10, len(times) * 9 // 10)
    return statistics.linear_regression([times[n] for n in middle], list(middle)).slope


@contextmanager
def _watching_memory(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """The most that ``process`` and all below it held at one moment, as its only element."""
    peak, done = [0], threading.Event()

    def sample() -> None:
        while not done.wait(_SAMPLED_EVERY):
            peak[0] = max(peak[0], _memory_of(process.pid))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield peak
    finally:
        done.set()
        sampler.join()


def _memory_of(pid: int) -> int:
    """Bytes of a process tree; pages that forked processes share count once where that is known."""
    try:
        root = psutil.Process(pid)
        return sum(_own_memory(process) for process in [root, *root.children(recursive=True)])
    except psutil.NoSuchProcess:
        return 0


def _own_memory(process: psutil.Process) -> int:
    try:
        info = process.memory_full_info()
    except psutil.NoSuchProcess:
        return 0
    return int(getattr(info, "pss", info.uss))


@contextmanager
def bench(data: Path, rows: int, seconds: float) -> Iterator[Bench]:
    """A mock endpoint, and a Prompt flow home of its own with the connection to it."""
    isolated_home()
    del os.environ["PF_WORKER_COUNT"]  # the tests' value would be nobody's default
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = _module("benchmarks.mock_endpoint", "--port", port, "--seconds", seconds)
    mock = subprocess.Popen(command, cwd=REPOSITORY)
    try:
        connecting = [sys.executable, "-c", _CONNECT, f"{url}/score"]
        subprocess.run(connecting, cwd=REPOSITORY, check=True, env=_environment(data))
        yield Bench(url, data, rows)
    finally:
        mock.terminate()
        mock.wait()
