"""Clients that people have, at the versions of their locks, against the running endpoint."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.home import Home
from tests.setup.serve.clients import environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
_WITH = [name for name in environment.CLIENTS if name != "schemathesis"]


@pytest.mark.parametrize("client", _WITH)
def test_client_gets_what_it_asks_for(tools_home: Home, client: str, tmp_path: Path) -> None:
    script = environment.HERE / f"with_{client.replace('-', '_')}.py"
    python = environment.folder_of(client) / "python"
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "LANG") if name in os.environ}
    mine = {"ENDPOINT": tools_home.url, "ENDPOINT_KEY": tools_home.key(), "HOME": str(tmp_path)}
    done = subprocess.run(
        [python, script],
        env={**kept, **mine, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
