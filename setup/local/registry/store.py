"""Opens the MLflow registry of this machine: its own database, its own environment, silent."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse
from urllib.request import url2pathname

from filelock import FileLock, Timeout

from setup.common.errors import FixableError
from setup.common.files import sha256_file, sha256_folder
from setup.common.paths import registry_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LOCK_TIMEOUT = 120.0  # seconds; registering takes two, the first time five
_BUSY_TIMEOUT = 30.0  # seconds that another process may hold the database


def database_path() -> Path:
    """The SQLite file that MLflow keeps runs and versions in."""
    return registry_folder() / "mlflow.db"


def artifacts_folder() -> Path:
    """The folder with the files of every run and version."""
    return registry_folder() / "artifacts"


@contextmanager
def open_registry() -> Iterator[MlflowClient]:
    """A client of the existing registry, for reading.

    FixableError where the database is damaged, of another MLflow version, or cannot be read.
    """
    _check_path()
    _check_database()
    with _mlflow():
        _check_schema()
        yield _client()


@contextmanager
def change_registry() -> Iterator[MlflowClient]:
    """A client for writing, one process at a time; makes the registry where there is none.

    FixableError as in ``open_registry``, and where the folder cannot be written.
    """
    _check_path()
    with _mlflow():
        registry_folder().mkdir(parents=True, exist_ok=True)
        with FileLock(registry_folder() / ".lock", timeout=_LOCK_TIMEOUT):
            if database_path().is_file():
                _check_database()
                _check_schema()
            else:
                _make_database()
            yield _client()


def _check_path() -> None:
    # Both mean something in a database URL, and MLflow does not unquote them everywhere.
    if {"?", "%"} & set(str(registry_folder())):
        what = f"the registry cannot lie in {registry_folder()}: it has a ? or % in its path"
        raise FixableError(what, "set FINETUNE_PHI_HOME to another folder")


def _check_database() -> None:
    """Refuse a damaged file at once, which MLflow would try to open for hours."""
    path = database_path()
    try:
        verdict = _ask_sqlite("PRAGMA quick_check(1)")
    except sqlite3.DatabaseError as error:
        verdict = str(error)
    if verdict != "ok":
        fix = f"restore your copy of {path}, or move {registry_folder()} away and register again"
        raise FixableError(f"the registry {path} is damaged: {verdict}", fix) from None


def _ask_sqlite(statement: str) -> str:
    """The first value that ``statement`` gives; an error of SQLite if the file is none of its own.

    Writable, because what a killed process left half-written is rolled back by the next.
    """
    uri = f"{database_path().absolute().as_uri()}?mode=rw"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT)) as database:
            row = database.execute(statement).fetchone()
            return str(row[0]) if row else ""
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return ""
        what = f"the registry {database_path()} cannot be read: {error}"
        raise FixableError(what, "check the folder, its owner and free space") from None


@contextmanager
def _mlflow() -> Iterator[None]:
    """MLflow with none of the user's MLFLOW_* settings, nothing sent or printed, errors as ours.

    MLflow decides on telemetry and logging when it is first imported, so import it in here.
    """
    folder, uri = registry_folder(), _uri(database_path())
    before = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
    own = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        # Parts of MLflow make a client of their own instead of using the one that called them.
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_REGISTRY_URI": uri,
    }
    _replace_settings(own)
    try:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except Timeout:
            what = f"another command has held the registry {folder} for two minutes"
            raise FixableError(what, "wait until it is done, then again") from None
        except (MlflowException, SQLAlchemyError, OSError) as error:
            problem = str(error).partition("\n")[0]  # what follows is the statement with its values
            what = f"the registry {folder} cannot be used: {problem}"
            fix = f"free space in {folder} and check its owner, or set FINETUNE_PHI_HOME"
            raise FixableError(what, fix) from None
    finally:
        _replace_settings(before)


def _replace_settings(settings: dict[str, str]) -> None:
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]
    os.environ.update(settings)


def _check_schema() -> None:
    """Refuse the database of another MLflow, which this one may change without a way back."""
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError
    from mlflow import __version__
    from mlflow.store.db.utils import _get_alembic_config

    folder, url = registry_folder(), _uri(database_path())
    revision = _ask_sqlite("SELECT version_num FROM alembic_version") or "unknown"
    scripts = ScriptDirectory.from_config(_get_alembic_config(url))  # type: ignore[no-untyped-call]
    if revision in scripts.get_heads():
        return
    try:
        scripts.get_revision(revision)
        what = f"is of an older MLflow than {__version__}"
        fix = f"copy {folder}, then `python -m mlflow db upgrade '{url}'`"
    except CommandError:  # it knows no such schema
        what = f"was upgraded by a newer MLflow (schema {revision}) than the {__version__} here"
        fix = (
            f"restore your copy of {database_path()}, or `python -m pip install --upgrade "
            f"mlflow-skinny`, or move {folder} away and `python -m setup register --recipe NAME`"
        )
    raise FixableError(f"the registry {folder} {what}", fix)


def _uri(path: Path) -> str:
    return f"sqlite:///{path.absolute().as_posix()}"


def _client() -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=_uri(database_path()), registry_uri=_uri(database_path()))


def _make_database() -> None:
    """Make it whole under another name first: nobody sees, or inherits, a half-made one."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    draft = database_path().with_suffix(".draft")
    for leftover in (draft, draft.with_name(f"{draft.name}-journal")):
        leftover.unlink(missing_ok=True)
    artifacts = artifacts_folder().absolute().as_uri()
    store = SqlAlchemyStore(_uri(draft), artifacts)  # type: ignore[no-untyped-call]
    store.engine.dispose()
    draft.replace(database_path())


def experiment_of(client: MlflowClient, model_name: str) -> str:
    """The experiment that bears the model's name, its artifacts in a folder of that name."""
    folder = (artifacts_folder() / model_name).resolve()
    experiment = client.get_experiment_by_name(model_name)
    if experiment is None:
        return str(client.create_experiment(model_name, artifact_location=folder.as_uri()))
    if local_path(experiment.artifact_location) != folder:
        what = f"the registry was moved: MLflow would write to {experiment.artifact_location}"
        raise FixableError(what, f"move it back there, or move {folder.parent.parent} away")
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def local_path(location: str) -> Path:
    """The path that MLflow's artifact location, a ``file:`` URI, names."""
    return Path(url2pathname(urlparse(location).path))


def check_copy(source: Path, copy: Path) -> None:
    """Raise FixableError unless every file of ``source``, a file or folder, is in ``copy``."""
    digest = sha256_folder if source.is_dir() else sha256_file
    if not copy.exists() or digest(copy) != digest(source):
        what = f"{copy} is not the same as {source} right after it was copied"
        raise FixableError(what, "check the disk and its free space, then register again")


def remove_files(location: str) -> None:
    """Remove the folder that MLflow made for a run or model with the artifacts ``location``."""
    folder = local_path(location).parent
    # A database that was edited, or moved here, may name any folder of this machine.
    if folder.is_relative_to(artifacts_folder().resolve()):
        shutil.rmtree(folder, ignore_errors=True)
