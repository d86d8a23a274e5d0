"""Several processes train as one does that takes their batches one after the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.home import ROOT
from tests.setup.finetune.conftest import MakeMachine
from tests.setup.finetune.machine import Machine, difference, facts, history, kill, result

pytestmark = [pytest.mark.slow, pytest.mark.minutes]

STEPS = ["finetune.batch_rows=3", "finetune.held_out_rows=5", "finetune.save_every=6"]
LONG = [*STEPS, "finetune.epochs=20", "finetune.patience=0", "finetune.evaluate_every=20"]
PATIENCE = 900  # seconds: each process loads torch, on a machine that may have other work
SHARDED = "finetune.sharding=full_shard"
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "setup"]


@pytest.fixture(scope="module")
def alone(make_machine: MakeMachine) -> dict[str, Path]:
    """Runs of one process over the same batches."""
    return {
        name: make_machine(facts(26)).finetune(*sets, "finetune.accumulation=2")
        for name, sets in (("short", STEPS), ("long", LONG))
    }


def _check_equal(run: Path, expected: Path) -> None:
    assert result(run)["processes"] == 2
    assert difference(run, expected) < 1e-3
    for name in ("steps", "best_step", "epochs", "tokens"):
        assert result(run)[name] == result(expected)[name]
    for row, other in zip(history(run), history(expected), strict=True):
        for name in ("loss", "held_out_loss", "general_loss"):
            assert abs(row.get(name, 0) - other.get(name, 0)) < 1e-3


@pytest.mark.parametrize("sharding", ["none", "full_shard"])
def test_two_processes(make_machine: MakeMachine, alone: dict[str, Path], sharding: str) -> None:
    machine = make_machine(facts(26))
    arguments = machine.arguments("finetune", *STEPS, f"finetune.sharding={sharding}")
    done = machine.home.run(*TORCHRUN, *arguments, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finetune: on own.jsonl: held-out loss") == 1
    assert done.stderr.count("step 0/") == 1
    assert done.stderr.count("What does the red lamp cost? > ") == 3  # all processes answer it
    assert not [noise for noise in ("FutureWarning", "it/s]") if noise in done.stderr]
    (run,) = machine.runs()
    _check_equal(run, alone["short"])


def _begin(machine: Machine, *sets: str) -> subprocess.Popen[str]:
    """Start ``torchrun`` as a terminal does, in a group of processes of its own."""
    return subprocess.Popen(
        [sys.executable, *TORCHRUN, *machine.arguments("finetune", *LONG, *sets)],
        cwd=ROOT,
        env=machine.home.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        process_group=0,
    )


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_sharded_run_goes_on(
    make_machine: MakeMachine, alone: dict[str, Path], sign: signal.Signals
) -> None:
    machine = make_machine(facts(26))
    process = _begin(machine, SHARDED)
    while not [seal for run in machine.runs() for seal in run.glob("checkpoint-*/whole.json")]:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)
    if sign == signal.SIGKILL:
        kill(process)
    else:
        os.killpg(process.pid, sign)
    told = process.communicate()[1]
    assert process.returncode
    assert ("checkpoint kept" in told) == (sign == signal.SIGINT)
    whole = machine.setup("finetune", *LONG)
    assert "was begun by 2 processes, not 1" in whole.stderr
    whole = machine.home.run(*TORCHRUN, *machine.arguments("finetune", *LONG), timeout=PATIENCE)
    assert "--set finetune.sharding=full_shard, or delete" in whole.stderr
    again = [*TORCHRUN, *machine.arguments("finetune", *LONG, SHARDED)]
    done = machine.home.run(*again, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "going on from step" in done.stderr
    (run,) = machine.runs()
    _check_equal(run, alone["long"])


def test_sharding_needs_several_processes(make_machine: MakeMachine) -> None:
    machine = make_machine(facts(26))
    done = machine.setup("finetune", *STEPS, SHARDED)
    assert done.returncode == 1
    assert "and this is one. Fix: torchrun --nproc-per-node 2 -m setup finetune" in done.stderr
    run = machine.finetune(*STEPS)
    found = machine.setup("finetune", *STEPS, SHARDED)
    assert found.returncode == 0, found.stderr
    assert str(run) in found.stdout
