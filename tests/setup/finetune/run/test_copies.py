"""A run whose machine was lost goes on from its copy, on a mount that refuses renames."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest

from setup.finetune.run import attempt as session
from tests.blob_mount import refusing
from tests.setup.finetune.conftest import MakeMachine
from tests.setup.finetune.machine import Done, Machine, difference, result

pytestmark = pytest.mark.slow

SHORT = ["finetune.epochs=2", "finetune.dropout=0.1"]  # 16 steps, a checkpoint every 4


class _Lost(BaseException):
    """Ends the machine in the test's place."""


@contextmanager
def _mounted(machine: Machine, mount: Path) -> Iterator[None]:
    with machine.home.altered(FINETUNE_PHI_COPIES=str(mount)), refusing(mount):
        yield


def _go_on(machine: Machine, mount: Path) -> Done:
    """The same command on a machine that has nothing."""
    shutil.rmtree(machine.home.path / "finetunes")
    with _mounted(machine, mount):
        done = machine.setup("finetune", *SHORT)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def lost(make_machine: MakeMachine, tmp_path: Path) -> tuple[Machine, Path]:
    """A machine that was lost after its last checkpoint, and the mount that has the copy."""
    machine, mount = make_machine(), tmp_path / "mount"
    kill = mock.patch.object(session.Session, "_load_best", side_effect=_Lost)
    with _mounted(machine, mount), kill, pytest.raises(_Lost):
        machine.setup("finetune", *SHORT)
    return machine, mount


def test_goes_on_and_is_found_done(make_machine: MakeMachine, lost: tuple[Machine, Path]) -> None:
    machine, mount = lost
    [copy] = mount.iterdir()
    kept = sorted(path.name for path in copy.glob("checkpoint-*"))
    assert kept == ["checkpoint-12", "checkpoint-16"]
    shutil.rmtree(copy / "checkpoint-16")
    done = _go_on(machine, mount)
    assert f"checkpoint-12 is taken from {copy}" in done.stderr
    assert "going on from step 12 of 16" in done.stderr
    [run] = machine.runs()
    assert difference(run, make_machine().finetune(*SHORT)) < 1e-6
    assert not list(copy.glob("checkpoint-*"))
    before = result(run)
    done = _go_on(machine, mount)
    assert f"the finished run is taken from {copy}" in done.stderr
    assert "step" not in done.stderr
    assert result(run) == before


def test_copy_that_was_cut_off_or_damaged_is_passed_over(lost: tuple[Machine, Path]) -> None:
    machine, mount = lost
    [copy] = mount.iterdir()
    (copy / "checkpoint-16/whole.json").write_bytes(b"{")  # a file that was being written
    optimizer = copy / "checkpoint-12/optimizer.pt"
    optimizer.write_bytes(optimizer.read_bytes()[:-1])
    done = _go_on(machine, mount)
    assert "checkpoint-16 is taken" not in done.stderr
    assert "checkpoint-12 is damaged (optimizer.pt); going on without it" in done.stderr
    assert "going on from" not in done.stderr


def test_copy_that_cannot_be_written_does_not_end_the_training(
    make_machine: MakeMachine, tmp_path: Path
) -> None:
    machine, no_folder = make_machine(), tmp_path / "file"
    no_folder.touch()
    with machine.home.altered(FINETUNE_PHI_COPIES=str(no_folder)):
        done = machine.setup("finetune", *SHORT)
    assert done.returncode == 0, done.stderr
    line = f"cannot write the copy {no_folder}{os.sep}"
    assert done.stderr.count(line) == 5  # four checkpoints and the result
    assert "another machine would lose these steps" in done.stderr
