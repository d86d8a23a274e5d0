"""Processes beside each other: at once, killed, offline, and those that only read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from setup.local.registry import get_version, list_versions, register_finetune
from setup.local.registry.store import open_registry
from tests.home import ROOT
from tests.setup.local.registry.runs import make_run

pytestmark = pytest.mark.slow

MODEL = "phi-local"
CHILD = """
import os, sys
from pathlib import Path

def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        print("network:", event, arguments[1:], file=sys.stderr)

sys.addaudithook(watch)
from setup.local.registry import get_version, list_versions, register_finetune
"""
REGISTER = (
    CHILD
    + f"""
version = register_finetune("{MODEL}", Path(sys.argv[1]))
print(version.number)
sys.exit("mlruns" if Path("mlruns").exists() else 0)
"""
)
KILLED = (
    CHILD
    + f"""
from setup.local.registry import store
store.check_copy = lambda *_: os._exit(9)
register_finetune("{MODEL}", Path(sys.argv[1]))
"""
)
READ = (
    CHILD
    + f"""
print(bool(list_versions("{MODEL}")) and get_version("{MODEL}", "champion").number)
print([name for name in ("mlflow", "sqlalchemy") if name in sys.modules])
"""
)


def _start(script: str, *arguments: Path) -> subprocess.Popen[str]:
    # MLflow sends nothing from what it takes for a test or a build server.
    quiet = ("CI", "PYTEST_CURRENT_TEST", "GITHUB_ACTIONS")
    env = {name: value for name, value in os.environ.items() if name not in quiet}
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=env | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def _output(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    return out.strip()


def test_processes_that_register_at_once(bare_home: Path, tmp_path: Path) -> None:
    worse = make_run(tmp_path / "worse", after=0.9)
    better = make_run(tmp_path / "better", after=0.8)
    processes = [_start(REGISTER, run) for run in (worse, better, better)]
    numbers = [int(_output(process)) for process in processes]
    assert sorted(set(numbers)) == [1, 2]
    assert numbers[1] == numbers[2]
    assert [version.number for version in list_versions(MODEL)] == [1, 2]
    assert get_version(MODEL, "champion").held_out_after == 0.8


def test_process_that_is_killed_holds_nothing(home: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "laptop-1")
    process = _start(KILLED, run)
    process.communicate(timeout=120)
    assert process.returncode == 9
    assert list_versions(MODEL) == []
    version = register_finetune(MODEL, run)
    assert (version.number, version.champion) == (1, True)
    with open_registry() as client:
        (experiment,) = client.search_experiments(filter_string=f"name = '{MODEL}'")
        assert len(client.search_runs([experiment.experiment_id])) == 1


def test_reading_without_a_registry_costs_nothing(bare_home: Path) -> None:
    assert _output(_start(READ)).splitlines() == ["False", "[]"]
    assert not bare_home.exists()


def test_reading_again_needs_no_mlflow(home: Path, tmp_path: Path) -> None:
    register_finetune(MODEL, make_run(tmp_path / "laptop-1"))
    assert _output(_start(READ)).splitlines() == ["1", "[]"]
