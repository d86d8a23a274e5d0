"""The audit of the way out of Prompt flow, with what there is of it in a project in Azure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from setup.azure.client.session import AzureSession
from setup.azure.project import upload
from setup.common import connection_store, flow_folder
from setup.common.connection_store import InFile
from tests.azure.fake import FakeAzure
from tests.azure.fake.flow_service import flow_service
from tests.azure.made_project import KEY, add_connection, copy_flows, make_project
from tests.evaluation.conftest import Machine

Audit = Callable[..., Any]


@pytest.fixture
def audit(azure: FakeAzure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Audit:
    """``exit audit --recipe phi-azure`` in a home that has one connection; what it printed."""
    monkeypatch.setenv("FINETUNE_PHI_HOME", str(tmp_path / "home"))
    place = InFile(tmp_path / "keys.json", "scoring")
    connection_store.keep("phi", {"endpoint": "https://e/score"}, {"key": place})

    def run(*arguments: str) -> Any:
        done = Machine(tmp_path / "home").run("exit", "audit", "--recipe", "phi-azure", *arguments)
        assert done.returncode == 0, done.stderr
        assert KEY not in done.stdout + done.stderr
        return json.loads(done.stdout) if "--json" in arguments else done.stdout

    return run


def test_flows_and_connections_of_the_project_are_listed(
    azure: FakeAzure, audit: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_project(azure)
    add_connection(azure, recipe)
    with monkeypatch.context() as patch:
        patch.setattr(flow_folder, "FLOWS", copy_flows(tmp_path / "flows"))
        upload.run(AzureSession(recipe))
        (flow_folder.FLOWS / "chat" / "chat.py").open("a").write("# changed\n")
        upload.run(AzureSession(recipe))
    azure.clear()
    content = audit("--json")
    assert azure.writes == []
    ids = {name: len(uploaded) for name, uploaded in content["uploads"].items()}
    assert ids == {"chat": 2, "evaluate_answers": 1}
    assert {i for kept in content["uploads"].values() for i in kept} == set(
        flow_service(azure).flows
    )
    assert content["connections"]["project phi-project"] == [recipe.connection]
    assert content["connections"]["our store"] == ["phi"]
    told = audit()
    chats = ", ".join(content["uploads"]["chat"])
    assert f"  chat {chats}: becomes flows/chat_agent, a hosted agent" in told
    assert f"  project phi-project: {recipe.connection}\n" in told


def test_a_project_that_is_empty_or_not_there_yet(azure: FakeAzure, audit: Audit) -> None:
    content = audit("--json")
    assert (content["uploads"], content["connections"]["project phi-project"]) == ({}, [])
    make_project(azure)
    assert "uploaded flows:\n  none\n" in audit()
    assert azure.writes == []


def test_without_promptflow_the_connections_are_listed_all_the_same(
    azure: FakeAzure, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_connection(azure, make_project(azure))
    for module in ("setup.common.promptflow_store", "evaluation.cli.engines"):
        monkeypatch.setattr(f"{module}.is_promptflow_installed", lambda: False)
    told = audit()
    assert "  project phi-project: phi\n" in told
    assert "promptflow, which lists them, is not installed" in told
