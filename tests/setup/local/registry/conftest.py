"""A home with an empty registry, made once and copied: making one takes MLflow a second."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from setup.local.registry.store import change_registry


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without a run."""
    home = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUNE_PHI_HOME", str(home))
        with change_registry():
            return home / "registry/mlflow.db"


@pytest.fixture
def bare_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a registry, where MLflow's own defaults point elsewhere."""
    home = tmp_path / "home é#1"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("FINETUNE_PHI_HOME", str(home))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{elsewhere / 'mine'}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    return home


@pytest.fixture
def home(bare_home: Path, empty_database: Path) -> Path:
    """The same with an empty registry."""
    (bare_home / "registry").mkdir(parents=True)
    shutil.copy(empty_database, bare_home / "registry/mlflow.db")
    return bare_home
