"""What others read of a run, and folders that this user may not write to."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.home import failed
from tests.setup.finetune.conftest import MakeMachine
from tests.setup.finetune.machine import Machine, facts

SHORT = ("finetune.epochs=1", "finetune.held_out_rows=1")


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def test_what_others_read_names_no_path_and_can_be_read(
    make_machine: MakeMachine, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    machine, user = make_machine(facts(6)), tmp_path_factory.getbasetemp()
    out = tmp_path / "out"
    with machine.home.altered(HOME=str(user), USERPROFILE=str(user)), _umask(0o027):
        for step in ("finetune", "register"):
            done = machine.setup(step, *SHORT)
            assert done.returncode == 0, done.stderr
        for form in ("gguf", "adapter", "transformers"):
            options = ("--form", form, "--out", str(out / form))
            done = machine.setup("export", *SHORT, options=options)
            assert done.returncode == 0, done.stderr
    artifacts = machine.home.path / "registry/artifacts"
    files = [path for folder in (out, artifacts) for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 12
    for path in files:
        assert str(user).encode() not in path.read_bytes(), path
    if os.name == "posix":
        weights = [path for path in files if path.suffix in (".safetensors", ".gguf", "")]
        assert {stat.S_IMODE(path.stat().st_mode) for path in weights} == {0o640}


@contextmanager
def _no_new_folder_in(sealed: Path) -> Iterator[None]:
    """What a folder of another user does, to root as well."""
    make = os.mkdir

    def refuse(path: Any, *arguments: Any, **options: Any) -> None:
        if Path(path).is_relative_to(sealed):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        make(path, *arguments, **options)

    with mock.patch("os.mkdir", refuse):
        yield


@pytest.fixture
def sealed(machine: Machine, tmp_path: Path) -> Iterator[Path]:
    """A home of the machine in which nothing can be made."""
    home = tmp_path / "sealed"
    folders = {"FINETUNE_PHI_HOME": str(home), "FINETUNE_PHI_MODELS": str(home / "models")}
    with machine.home.altered(**folders), _no_new_folder_in(home):
        yield home


@pytest.mark.parametrize(
    ("step", "sets", "variable"),
    [
        ("finetune", (), "FINETUNE_PHI_HOME"),
        ("finetune", ("model.precision=f16",), "FINETUNE_PHI_MODELS"),
        ("deploy", (), "FINETUNE_PHI_HOME"),
        ("deploy", ("model.precision=f16",), "FINETUNE_PHI_MODELS"),
    ],
)
def test_home_of_another_user(
    machine: Machine, sealed: Path, step: str, sets: tuple[str, ...], variable: str
) -> None:
    line = failed(machine.setup(step, *sets))
    assert (
        f"cannot write to {sealed}" in line
        or f"cannot write {sealed}" in line
        or (f"cannot write the model to {sealed}" in line)
    )
    assert f"Permission denied. Fix: set {variable} to a folder of your own" in line


def test_home_of_another_user_can_be_planned_and_asked(machine: Machine, sealed: Path) -> None:
    planned = machine.setup("finetune", options=("--dry-run",))
    assert (planned.returncode, "LoRA of rank 8" in planned.stdout) == (0, True)
    assert "python -m setup finetune" in failed(machine.setup("register"))
    assert not sealed.exists()


def test_models_of_another_user_are_trained_without_a_copy(
    make_machine: MakeMachine, tmp_path: Path
) -> None:
    machine, models = make_machine(facts(6)), tmp_path / "models"
    with machine.home.altered(FINETUNE_PHI_MODELS=str(models)), _no_new_folder_in(models):
        done = machine.setup("finetune", *SHORT)
    assert done.returncode == 0, done.stderr
    assert not models.exists()
