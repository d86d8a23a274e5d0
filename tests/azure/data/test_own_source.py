"""One's own data from the first command to the last, each as the one before it printed it."""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path

import pytest

from tests.azure.fake import FakeAzure
from tests.azure.fake.store import Resource
from tests.scripted.pf_home import isolated_home
from tests.setup.command import Ended, run

PF_HOME = isolated_home()  # before the first import of promptflow
STEPS = ["provision", "data", "finetune", "register", "deploy", "connect", "upload"]
ROWS = 40


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, azure: FakeAzure) -> Path:
    """Rows of one's own, with a space in the name, and a home of the test's own."""
    monkeypatch.setenv("FINETUNE_PHI_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("sys.stdin", None)
    azure.job_states = ["Running", "Completed"]
    path = tmp_path / "my own.jsonl"
    turns = [
        [
            {"role": "user", "content": f"What does lamp {number} cost?"},
            {"role": "assistant", "content": f"Lamp {number} costs {number + 7} euros."},
        ]
        for number in range(ROWS)
    ]
    path.write_text("".join(json.dumps({"messages": rows}) + "\n" for rows in turns))
    return path


def following(ended: Ended) -> list[str]:
    """The arguments of what comes next, without the program's name."""
    assert ended.code == 0, ended.err
    (command,) = [line for line in ended.err.splitlines() if line.startswith("next: ")]
    return shlex.split(command.removeprefix("next: python -m "))


def only(azure: FakeAzure, kind: str) -> Resource:
    """The one resource whose type ends so."""
    (found,) = [one for one in azure.store if one.kind.endswith(kind)]
    return found


@pytest.mark.parametrize("recipe", ["phi-azure", "gguf-azure"])
def test_every_printed_command_keeps_the_source(
    azure: FakeAzure, source: Path, recipe: str
) -> None:
    out = source.parent / "prepared"
    given = ["--set", f"data.source={source}", "--set", f"data.out={out}"]
    command = ["provision", "--recipe", recipe, *given]
    done = []
    while command[0] in STEPS:
        done.append(command[0])
        room, *command = following(run(*command, "--yes"))
    assert done == STEPS
    assert (room, command[0]) == ("evaluation", "run")
    assert f"data.source={source}" in command
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert only(azure, "/jobs").properties["tags"]["source_sha256"] == digest
    assets = [one for one in azure.store if one.kind.endswith("/data/versions")]
    assert {one.properties["tags"]["source_sha256"] for one in assets} == {digest}
    own = {json.dumps(json.loads(line)["messages"]) for line in source.open()}
    account, path = only(azure, "/storageaccounts").id.name, "paths/"
    store = next(one for one in azure.store if one.id.name == "workspaceblobstore")
    blobs = azure.storage.container(account, store.properties["containerName"])
    trained = [blobs[one.properties["dataUri"].partition(path)[2]].content for one in assets]
    rows = [json.loads(line)["messages"] for part in trained for line in part.splitlines()]
    assert len(rows) > ROWS / 2
    assert {json.dumps(row) for row in rows} <= own


@pytest.mark.parametrize("step", ["data", "finetune", "register", "deploy"])
def test_source_that_is_left_out_is_refused(azure: FakeAzure, source: Path, step: str) -> None:
    out = ["--recipe", "phi-azure", "--set", f"data.out={source.parent / 'prepared'}"]
    own = ["--set", f"data.source={source}"]
    before = STEPS[: max(2, STEPS.index(step))]
    assert [run(name, *out, *own, "--yes").code for name in before] == [0] * len(before)
    azure.clear()
    line = run(step, *out, "--yes").error
    assert f"holds the data of {source}, the recipe says sample" in line
    assert azure.writes == []
    fix = shlex.split(line.partition("the same command with ")[2].replace("',", "' "))
    assert run(step, *out, *fix[:2], "--yes").code == 0
