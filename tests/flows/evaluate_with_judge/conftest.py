"""A Prompt flow home of our own, copies of the flow folders, and a judge that is scripted."""

from __future__ import annotations

import functools
import gc
import importlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.home import ROOT
from tests.scripted.pf_home import isolated_home
from tests.scripted.server import Server, running

# Before the first import of promptflow, which is why that happens inside the fixtures.
isolated_home()

KEY = "k3y-of-the-judge"
MODEL = "a-judge"
TEXTS = {"question": "How long?", "answer": "30 days.", "ground_truth": "30 days."}


def copied(name: str, folder: Path) -> Path:
    """The flow folder ``name`` alone, as an upload has it."""
    ignored = shutil.ignore_patterns("__pycache__", ".promptflow")
    return Path(shutil.copytree(ROOT / "flows" / name, folder / name, ignore=ignored))


@pytest.fixture(scope="session")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied("evaluate_with_judge", tmp_path_factory.mktemp("flows"))


@pytest.fixture(scope="session")
def evals_flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied("evaluate_with_evals_judge", tmp_path_factory.mktemp("flows"))


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def server(shared_server: Server) -> Iterator[Server]:
    yield shared_server
    shared_server.stopping.set()


@pytest.fixture(scope="session")
def client(shared_server: Server) -> Any:
    """Prompt flow with both kinds of judge: `judge`, and `judge-azure`."""
    client = importlib.import_module("promptflow.client").PFClient()
    entities = importlib.import_module("promptflow.entities")
    url = shared_server.url
    judge = entities.OpenAIConnection(name="judge", api_key=KEY, base_url=f"{url}/v1")
    azure = entities.AzureOpenAIConnection(name="judge-azure", api_key=KEY, api_base=url)
    for connection in (judge, azure):
        client.connections.create_or_update(connection)
    return client


Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def executor(client: Any) -> Callable[..., Any]:
    """promptflow's executor of a flow folder, made once: it reads the same file ten times."""
    module = importlib.import_module("promptflow.executor")

    @functools.cache
    def create(folder: Path, connection: str, variant: str | None) -> Any:
        dag = yaml.safe_load((folder / "flow.dag.yaml").read_text(encoding="utf-8"))
        if variant:
            dag["node_variants"]["case"]["default_variant_id"] = variant
        path = folder / f"{variant}.dag.yaml"
        path.write_text(yaml.safe_dump(dag), encoding="utf-8")
        stored = client.connections.get(connection, with_secrets=True)
        connections = {"judge": stored._to_execution_connection_dict()}
        return module.FlowExecutor.create(path, connections, folder)

    return create


def _asking(executor: Callable[..., Any], folder: Path) -> Ask:
    def run(variant: str | None = None, connection: str = "judge", **inputs: Any) -> dict[str, Any]:
        given = TEXTS | {"judge_model": MODEL} | inputs
        return dict(executor(folder, connection, variant).exec_line(given).output)

    return run


@pytest.fixture
def ask(executor: Callable[..., Any], flow: Path, server: Server) -> Ask:
    """Judge one line in this process; returns the outputs."""
    return _asking(executor, flow)


@pytest.fixture
def ask_evals(executor: Callable[..., Any], evals_flow: Path, server: Server) -> Ask:
    """The same of promptflow-evals' judges."""
    return _asking(executor, evals_flow)


Judge = Callable[..., Any]


@pytest.fixture
def judge(
    client: Any, flow: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Judge:
    """Judge these rows in a batch run, one after the other; returns the run."""
    monkeypatch.setenv("PF_WORKER_COUNT", "1")

    def run(rows: list[dict[str, Any]], **options: Any) -> Any:
        gc.collect()  # promptflow leaves its database sessions to it, and has 15 of them
        data = tmp_path / "rows.jsonl"
        lines = [json.dumps(TEXTS | row) for row in rows]
        data.write_text("\n".join(lines) + "\n", encoding="utf-8")
        columns = {name: f"${{data.{name}}}" for name in TEXTS | rows[0]}
        mapping = columns | {"judge_model": MODEL}
        return client.run(flow=str(flow), data=str(data), column_mapping=mapping, **options)

    return run
