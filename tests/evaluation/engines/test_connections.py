"""The store of connections: what may be shown, and for each secret where it is."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from setup.common import connection_store
from setup.common.connection_store import InFile
from setup.common.errors import FixableError

KEY = "k3y-of-the-store-19ab"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FINETUNE_PHI_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyrings.alt.file.PlaintextKeyring")
    monkeypatch.setenv("KEYRING_PROPERTY_FILE_PATH", str(tmp_path / "keyring.cfg"))
    return tmp_path


def test_a_key_stays_where_it_is(home: Path) -> None:
    keys = home / "keys.json"
    keys.write_text(json.dumps({"scoring": KEY}))
    configs = {"endpoint": "http://127.0.0.1:1/score"}
    assert connection_store.keep("phi", configs, {"key": InFile(keys, "scoring")})
    assert not connection_store.keep("phi", configs, {"key": InFile(keys, "scoring")})
    file = home / "connections.json"
    assert KEY not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    stored = connection_store.read("phi")
    assert (stored.kind, stored.configs, stored.secrets) == (
        "CustomConnection",
        configs,
        {"key": KEY},
    )
    assert KEY not in repr(stored)
    keys.write_text(json.dumps({"scoring": "another"}))
    assert connection_store.read("phi").secrets == {"key": "another"}


def test_a_key_that_is_given_goes_to_the_keyring(home: Path) -> None:
    assert connection_store.keep("judge", {}, {"api_key": KEY}, "OpenAIConnection")
    assert not connection_store.keep("judge", {}, {"api_key": KEY}, "OpenAIConnection")
    assert KEY not in (home / "connections.json").read_text()
    assert connection_store.read("judge").secrets == {"api_key": KEY}
    assert connection_store.keep("judge", {}, {"api_key": "new"}, "OpenAIConnection")
    assert connection_store.read("judge").secrets == {"api_key": "new"}
    assert connection_store.names() == ["judge"]


def test_a_variable_comes_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connection_store.keep("phi-tuned", {}, {"key": InFile(home / "none.json", "scoring")})
    with pytest.raises(FixableError, match="PHI_TUNED_KEY"):
        connection_store.read("phi-tuned")
    monkeypatch.setenv("PHI_TUNED_KEY", KEY)
    assert connection_store.read("phi-tuned").secrets == {"key": KEY}


def test_one_that_there_is_not(home: Path) -> None:
    connection_store.keep("phi", {}, {})
    with pytest.raises(FixableError, match=r"no connection other .*there: phi.*setup connect"):
        connection_store.read("other")
