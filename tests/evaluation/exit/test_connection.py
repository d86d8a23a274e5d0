"""A connection of one's own, kept where promptflow is not: no key in a file or an argument."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from setup.cli.main import app
from setup.common import connection_store
from setup.common.errors import FixableError
from tests.home import ROOT

FILE = str(ROOT / "connections" / "judge.yaml")
KEY = "k3y-of-a-judge-90bd"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FINETUNE_PHI_HOME", str(tmp_path))
    return tmp_path


def test_a_judge_is_kept(home: Path) -> None:
    command = ["connection", FILE, "--set", "base_url=http://127.0.0.1:1/v1", "--json"]
    done = CliRunner().invoke(app, command, input=f"{KEY}\n")
    assert done.exit_code == 0
    assert KEY not in done.stdout
    assert KEY not in (home / "connections.json").read_text()
    stored = connection_store.read("judge")
    assert (stored.kind, stored.secrets) == ("OpenAIConnection", {"api_key": KEY})
    assert stored.configs == {"base_url": "http://127.0.0.1:1/v1"}


def test_a_key_in_an_argument_is_refused(home: Path) -> None:
    done = CliRunner().invoke(app, ["connection", FILE, "--set", f"api_key={KEY}"])
    assert isinstance(done.exception, FixableError)
    assert KEY not in str(done.exception)
    assert not (home / "connections.json").exists()


def test_a_file_that_is_no_connection(home: Path) -> None:
    path = home / "x.yaml"
    path.write_text(json.dumps({"name": "x", "type": "serp"}))
    done = CliRunner().invoke(app, ["connection", str(path)])
    assert "no type of custom, open_ai" in str(done.exception)
