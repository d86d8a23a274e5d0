"""A run that was killed, stopped or robbed of a checkpoint ends as one that never was."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from setup.finetune.run import attempt as session
from setup.finetune.run.checkpoints import last_checkpoint
from tests.setup.finetune.conftest import MakeMachine
from tests.setup.finetune.machine import Done, Machine, difference, facts, history, result

pytestmark = pytest.mark.slow

EPOCHS = "finetune.epochs=8"  # 64 steps
SAME = 1e-6  # the same arithmetic on the same machine
PLAIN: list[str] = []
NOISY = ["finetune.dropout=0.1", "finetune.accumulation=2", "finetune.batch_rows=2"]


@pytest.fixture(scope="module")
def whole(make_machine: MakeMachine) -> dict[str, Path]:
    """Runs that nobody interrupted."""
    return {
        name: make_machine().finetune(EPOCHS, *sets)
        for name, sets in (("plain", PLAIN), ("noisy", NOISY))
    }


def _wait_for_step(machine: Machine, step: int, alive: Callable[[], bool] = lambda: True) -> None:
    deadline = time.monotonic() + 60
    while not any(row["step"] >= step for run in machine.runs() for row in history(run)):
        assert time.monotonic() < deadline
        assert alive()
        time.sleep(0.002)


def _kill(machine: Machine, sets: list[str], step: int) -> None:
    process = machine.start(EPOCHS, *sets)
    _wait_for_step(machine, step, process.is_alive)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def _check_equal(done: Done, machine: Machine, whole: Path, resumed: bool = True) -> None:
    assert done.returncode == 0, done.stderr
    assert ("going on from step" in done.stderr) == resumed
    (run,) = machine.runs()
    assert difference(run, whole) < SAME
    rows, expected = history(run), history(whole)
    for name in ("step", "loss", "held_out_loss", "tokens", "epoch"):
        assert [row.get(name) for row in rows] == pytest.approx(
            [row.get(name) for row in expected], nan_ok=False
        )
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)
    for name in ("best_step", "steps", "tokens", "epochs"):
        assert result(run)[name] == result(whole)[name]


@pytest.mark.parametrize(("name", "sets"), [("plain", PLAIN), ("noisy", NOISY)])
def test_killed_twice_at_any_step(
    make_machine: MakeMachine, whole: dict[str, Path], name: str, sets: list[str]
) -> None:
    machine, chance = make_machine(), random.Random(name)  # noqa: S311 - any, but the same ones
    for step in (chance.randint(5, 25), chance.randint(30, 50)):
        _kill(machine, sets, step)
    (run,) = machine.runs()
    assert not (run / "result.json").exists()
    _check_equal(machine.setup("finetune", EPOCHS, *sets), machine, whole[name])


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_stopped_run_says_how_to_go_on(
    make_machine: MakeMachine, whole: dict[str, Path], sign: signal.Signals
) -> None:
    machine = make_machine()

    def stop() -> None:
        _wait_for_step(machine, 20)
        os.kill(os.getpid(), sign)

    thread = threading.Thread(target=stop)
    thread.start()
    done = machine.setup("finetune", EPOCHS)
    thread.join()
    assert done.returncode == 130
    (run,) = machine.runs()
    checkpoint = last_checkpoint(run)
    assert checkpoint
    assert f"stopped after step {checkpoint.name[11:]}, checkpoint kept" in done.stderr
    assert "run the same command again" in done.stderr
    assert "Traceback" not in done.stderr
    again = machine.setup("finetune", EPOCHS)
    assert f"going on from step {checkpoint.name[11:]} of" in again.stderr
    _check_equal(again, machine, whole["plain"])


class _Killed(BaseException):
    """Ends the process in the test's place."""


@pytest.fixture(scope="module")
def killed_once(make_machine: MakeMachine) -> Path:
    """A run that ended between its last step and the result."""
    machine = make_machine()
    _kill_before_result(machine, EPOCHS)
    (run,) = machine.runs()
    assert len(list(run.glob("checkpoint-*"))) == 2
    return run


@pytest.fixture
def killed(make_machine: MakeMachine, killed_once: Path) -> tuple[Machine, Path]:
    """A machine with a copy of that run, to be spoilt."""
    machine = make_machine()
    run = machine.home.path / "finetunes" / killed_once.name
    return machine, Path(shutil.copytree(killed_once, run))


def _kill_before_result(machine: Machine, *sets: str) -> None:
    kill = mock.patch.object(session.Session, "_load_best", side_effect=_Killed)
    with kill, pytest.raises(_Killed):
        machine.setup("finetune", *sets)


def test_killed_after_the_last_step(killed: tuple[Machine, Path], whole: dict[str, Path]) -> None:
    machine, _ = killed
    _check_equal(machine.setup("finetune", EPOCHS), machine, whole["plain"])


def test_killed_after_early_stopping(make_machine: MakeMachine) -> None:
    sets = ("finetune.epochs=60", "finetune.evaluate_every=5", "finetune.patience=1")
    machine, other = make_machine(facts(6)), make_machine(facts(6))
    _kill_before_result(machine, *sets)
    done = machine.setup("finetune", *sets)
    whole = other.finetune(*sets)
    assert result(whole)["best_step"] < result(whole)["steps"] < 120
    _check_equal(done, machine, whole)


def test_cut_off_checkpoint_is_passed_over(
    killed: tuple[Machine, Path], whole: dict[str, Path]
) -> None:
    machine, run = killed
    (run / "checkpoint-64/whole.json").unlink()
    (run / "checkpoint-64/optimizer.pt").write_bytes(b"half")
    done = machine.setup("finetune", EPOCHS)
    assert "going on from step 60 of 64" in done.stderr
    assert "damaged" not in done.stderr
    _check_equal(done, machine, whole["plain"])


def _damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "name",
    [
        "optimizer.pt",
        "adapter_model.safetensors",
        "kept/best/adapter_model.safetensors",
        "kept/history.jsonl",
    ],
)
def test_damaged_checkpoint_is_named(
    killed: tuple[Machine, Path], whole: dict[str, Path], name: str
) -> None:
    machine, run = killed
    _damage(run / "checkpoint-64" / name)
    done = machine.setup("finetune", EPOCHS)
    (line,) = [line for line in done.stderr.splitlines() if "damaged" in line]
    assert line == f"{run / 'checkpoint-64'} is damaged ({name}); going on without it"
    assert "going on from step 60 of 64" in done.stderr
    _check_equal(done, machine, whole["plain"])


def test_from_the_start_without_a_whole_checkpoint(
    killed: tuple[Machine, Path], whole: dict[str, Path]
) -> None:
    machine, run = killed
    _damage(run / "checkpoint-60/scheduler.pt")
    (run / "checkpoint-64/rng_state.pth").unlink()
    done = machine.setup("finetune", EPOCHS)
    assert done.stderr.count("is damaged") == 2
    _check_equal(done, machine, whole["plain"], resumed=False)


def test_what_lies_beside_the_checkpoints_is_not_needed(
    killed: tuple[Machine, Path], whole: dict[str, Path]
) -> None:
    machine, run = killed
    (run / "history.jsonl").write_text('{"step": 1, "held_out')
    shutil.rmtree(run / "best")
    _check_equal(machine.setup("finetune", EPOCHS), machine, whole["plain"])
