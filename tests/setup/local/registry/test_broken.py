"""A registry that cannot be used: one line with the way out, at once, and nothing half-made."""

from __future__ import annotations

import json
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from setup.common.errors import FixableError
from setup.local.registry import get_version, list_versions, promote, register_finetune
from tests.setup.local.registry.runs import make_run

MODEL = "phi-local"


def _fails(run: Path, message: str) -> None:
    for attempt in (
        lambda: register_finetune(MODEL, run),
        lambda: list_versions(MODEL),
        lambda: promote(MODEL, 1),
    ):
        with pytest.raises(FixableError, match=message) as failure:
            attempt()
        assert failure.value.fix
        assert "\n" not in str(failure.value)


@pytest.mark.parametrize("content", [b"no database at all, only text " * 40, b""])
def test_damaged_database(home: Path, tmp_path: Path, content: bytes) -> None:
    run = make_run(tmp_path / "laptop-1")
    database = home / "registry/mlflow.db"
    whole = database.read_bytes()
    database.write_bytes(content or whole[: len(whole) // 2])
    _fails(run, "mlflow.db is damaged")
    database.write_bytes(whole)
    assert register_finetune(MODEL, run).number == 1


def test_database_of_a_newer_mlflow(home: Path, tmp_path: Path) -> None:
    """No command of this MLflow can read it: it knows no way there or back."""
    with closing(sqlite3.connect(home / "registry/mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '000000000000'")
    message = r"upgraded by a newer MLflow \(schema 000000000000\).*Fix: restore your copy"
    _fails(make_run(tmp_path / "laptop-1"), message)


def test_database_of_an_older_mlflow_is_upgraded_as_told(home: Path, tmp_path: Path) -> None:
    database = home / "registry/mlflow.db"
    database.unlink()
    _make_older_database(database)
    run = make_run(tmp_path / "laptop-1")
    with pytest.raises(FixableError, match="is of an older MLflow than") as told:
        register_finetune(MODEL, run)
    (command,) = re.findall(r"`python (-m mlflow [^`]*)`", told.value.fix)
    done = subprocess.run(
        [sys.executable, *shlex.split(command)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert register_finetune(MODEL, run).number == 1


def _make_older_database(path: Path) -> None:
    """An MLflow database as it was before the newest change of its schema."""
    import sqlalchemy
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base

    url = f"sqlite:///{path.as_posix()}"
    config = _get_alembic_config(url)  # type: ignore[no-untyped-call]
    (newest,) = ScriptDirectory.from_config(config).get_revisions("heads")
    engine = sqlalchemy.create_engine(url)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, str(newest.down_revision))
    engine.dispose()


def test_folder_that_cannot_be_made(bare_home: Path, tmp_path: Path) -> None:
    bare_home.mkdir()
    (bare_home / "registry").write_text("in the way")
    with pytest.raises(FixableError, match=r"the registry .* cannot be used"):
        register_finetune(MODEL, make_run(tmp_path / "laptop-1"))


def test_path_that_no_database_url_can_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_PHI_HOME", str(tmp_path / "100%"))
    with pytest.raises(FixableError, match="it has a \\? or % in its path"):
        register_finetune(MODEL, make_run(tmp_path / "laptop-1"))


@contextmanager
def _largest_file(size: int) -> Iterator[None]:
    """No file can grow beyond ``size`` bytes: a disk that is full, without filling one."""
    resource = pytest.importorskip("resource", reason="Windows has no file size limit")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_disk_full_in_the_database(home: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "laptop-1")
    with _largest_file(4096), pytest.raises(FixableError, match="cannot be used") as failure:
        register_finetune(MODEL, run)
    assert "\n" not in str(failure.value)
    assert list_versions(MODEL) == []
    assert register_finetune(MODEL, run).number == 1


def test_disk_full_in_the_artifacts(home: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "laptop-1")
    vocabulary = json.dumps(["word"] * 300_000)
    (run / "tokenizer/tokenizer.json").write_text(vocabulary)
    with _largest_file(2_000_000), pytest.raises(FixableError, match="cannot be used"):
        register_finetune(MODEL, run)
    assert list_versions(MODEL) == []
    version = register_finetune(MODEL, run)
    assert (version.number, get_version(MODEL, "champion")) == (1, version)
    assert (version.tokenizer / "tokenizer.json").read_text() == vocabulary


def test_copy_that_differs_is_not_registered(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    run = make_run(tmp_path / "laptop-1")
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "log_model_artifacts", lambda *_: None)
        with pytest.raises(FixableError, match=r"is not the same as .* right after it was copied"):
            register_finetune(MODEL, run)
    assert list_versions(MODEL) == []
