"""Prompt flow with a home of its own, the flow folder alone, and a scripted content safety."""

from __future__ import annotations

import gc
import importlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.home import ROOT
from tests.scripted.pf_home import isolated_home
from tests.scripted.server import Handler, Server, Step, running

# Before the first import of promptflow, which the test modules bring.
isolated_home()

KEY = "k3y-of-content-safety"
CATEGORIES = ("Hate", "SelfHarm", "Sexual", "Violence")
INPUTS = ("answer", "question", "category", "canaries", "marks", "must_decline")
Row = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def outputs(run: Any) -> list[Row]:
    """What the flow put out for each line that did not fail."""
    return read_rows(Path(run.properties["output_path"]) / "flow_outputs" / "output.jsonl")


@pytest.fixture(scope="session")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the flow folder alone, as an upload has it."""
    ignored = shutil.ignore_patterns("__pycache__", ".promptflow")
    folder = tmp_path_factory.mktemp("flows") / "evaluate_safety"
    return Path(shutil.copytree(ROOT / "flows" / "evaluate_safety", folder, ignore=ignored))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as server:
        yield server


def analysed(**severities: int) -> Step:
    """The service's reply: these severities, 0 in the other categories."""

    def step(handler: Handler) -> None:
        found = [{"category": name, "severity": severities.get(name, 0)} for name in CATEGORIES]
        reply(handler, 200, {"blocklistsMatch": [], "categoriesAnalysis": found})

    return step


def failing(status: int, **headers: str) -> Step:
    """The service's error."""
    error = {"error": {"code": "InternalError", "message": "no luck today"}}
    return lambda handler: reply(handler, status, error, **headers)


def reply(handler: Handler, status: int, body: Any, **headers: str) -> None:
    content = json.dumps(body).encode()
    handler.start(status, Content_Length=str(len(content)), **headers)
    handler.wfile.write(content)


@pytest.fixture(scope="session")
def client() -> Any:
    return importlib.import_module("promptflow.client").PFClient()


Evaluate = Callable[..., Any]


@pytest.fixture(scope="module")
def evaluate(client: Any, flow: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluate:
    """A batch run of the flow over these rows, in this process; returns the finished run."""

    def run(rows: list[Row], **options: Any) -> Any:
        gc.collect()  # promptflow leaves its database sessions to it, and has 15 of them
        data = tmp_path_factory.mktemp("data") / "rows.jsonl"
        data.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        mapping = {name: f"${{data.{name}}}" for name in INPUTS}
        return client.run(flow=str(flow), data=str(data), column_mapping=mapping, **options)

    return run
