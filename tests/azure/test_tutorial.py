"""Every command of docs/tutorial.md, run from top to bottom, a column each."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.azure.fake import FakeAzure
from tests.conftest import MakeHome
from tests.home import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.minutes]
_COMMAND = re.compile(r"`(python -m (?:setup|evaluation)[^`]*)`")
_ASKING = ("up", "provision", "finetune", "deploy", "run", "teardown")
# The hub's data set needs a network: tests/setup/data/test_hub.py has that, here it is the sample.
_HUB = " --set data.source=HuggingFaceH4/ultrachat_200k"


def _column(number: int) -> Iterator[list[str]]:
    """The commands of a column of the first table, each where it first stands."""
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    table = text.partition("## Every step")[2].partition("\n## ")[0]
    seen = set()
    for row in table.splitlines():
        cells = row.strip("|").split("|")
        if len(cells) == 3:
            for named in _COMMAND.findall(cells[number]):
                command = named.removesuffix(_HUB)
                if command not in seen:
                    seen.add(command)
                    yield shlex.split(command)[2:]


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=170,
        check=False,
    )


def test_in_azure(azure: FakeAzure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    azure.job_states = ["Running", "Completed"]
    azure.answer = lambda _deployment, _messages: "The Finch air purifier costs 190 euros."
    for name in ("FINETUNE_PHI_HOME", "PF_HOME_DIRECTORY", "AZURE_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyrings.alt.file.PlaintextKeyring")
    monkeypatch.setenv("KEYRING_PROPERTY_FILE_PATH", str(tmp_path / "keyring.cfg"))
    ran = []
    for module, verb, *arguments in _column(2):
        given = arguments if "--recipe" in arguments else ["--recipe", "phi-azure", *arguments]
        if "gguf-azure" in given or "azure.roles=contributor" in given:
            given = [*given, "--dry-run"]  # the same step of another recipe
        elif verb in _ASKING:
            given = [*given, "--yes", *(["--limit", "2"] if verb == "run" else [])]
        if verb == "quota" and "CORES" in given:
            given[given.index("CORES")] = "24"
        if verb == "delete":  # the way to a second deployment is in tests/azure/deploy
            ran.append(verb)
            continue
        done = _run(module, verb, *given)
        assert done.returncode == 0, (module, verb, given, done.stdout, done.stderr)
        ran.append(verb)
    assert {"provision", "status", "logs", "traffic", "upload", "teardown"} <= set(ran)
    assert list(azure.store) == []


def test_here(make_home: MakeHome, tmp_path: Path) -> None:
    home = make_home(
        "finetune.epochs=0.1",
        "finetune.layers=2",
        "finetune.max_tokens=256",
        "finetune.held_out_rows=4",
        f"data.out={tmp_path / 'prepared'}",
        "data.limit=60",
    )
    ran = []
    for module, verb, *arguments in _column(1):
        more = ["--limit", "2", "--no-general"] if module == "evaluation" else []
        sets = [
            part
            for value in (f"endpoint.port={home.port}", *home.sets)
            for part in ("--set", value)
        ]
        if verb == "delete":
            done = home.setup("traffic", "base=100")
            assert done.returncode == 0, done.stderr
        sets = sets if verb != "inspect" else []
        done = home.run("-m", module, verb, *sets, *arguments, *more)
        assert done.returncode == 0, (verb, arguments, done.stdout, done.stderr)
        ran.append(verb)
    assert {"doctor", "data", "finetune", "register", "deploy", "connect", "stop"} <= set(ran)
