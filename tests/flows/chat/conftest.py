"""A Prompt flow of our own: its home, keyring and flow copies in temporary folders, no network."""

from __future__ import annotations

import gc
import importlib
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.scripted.pf_home import isolated_home
from tests.scripted.server import Server, running

ROOT = Path(__file__).resolve().parents[3]
KEY = "k3y-of-the-tests-9f2c71d0"


# Before the first import of promptflow, which is why that happens inside the fixtures.
PF_HOME = isolated_home()


@pytest.fixture(scope="session")
def pf_home() -> Path:
    return PF_HOME


@pytest.fixture(scope="session")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the flow folder alone, as an upload has it."""
    folder = tmp_path_factory.mktemp("flows") / "chat"
    ignored = shutil.ignore_patterns("__pycache__", ".promptflow")
    shutil.copytree(ROOT / "flows" / "chat", folder, ignore=ignored)
    return folder


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def server(shared_server: Server) -> Iterator[Server]:
    """The scripted endpoint; what a test left hanging ends with it."""
    shared_server.play()
    yield shared_server
    shared_server.stopping.set()


def files_with_key(*folders: Path) -> list[Path]:
    """Files below ``folders`` that hold the key in clear; the encrypted store does not."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 15, "too few files for this to prove anything"
    return [path for path in files if KEY.encode() in path.read_bytes()]


@pytest.fixture(scope="session", autouse=True)
def _no_key_is_left(flow: Path) -> Iterator[None]:
    """After all tests: no file that promptflow wrote anywhere holds the key."""
    yield
    assert files_with_key(PF_HOME, flow) == []


PATHS = {"auto": "/score", "score": "/score", "mlflow": "/score", "openai": "/v1/chat/completions"}
Connect = Callable[..., None]


@pytest.fixture
def connect(shared_server: Server) -> Connect:
    """Create a connection: ``connect("score", timeout="1")``, named ``phi`` unless told."""
    client = importlib.import_module("promptflow.client").PFClient()
    custom = importlib.import_module("promptflow.entities").CustomConnection

    def create(contract: str, name: str = "phi", **configs: str) -> None:
        # promptflow leaves its database sessions to the garbage collector, and has 15 of them.
        gc.collect()
        base = {"endpoint": shared_server.url + PATHS[contract], "contract": contract}
        connection = custom(name=name, configs=base | configs, secrets={"key": KEY})
        client.connections.create_or_update(connection)

    return create


Ask = Callable[..., str]


@contextmanager
def generating(flow: Path, **settings: Any) -> Iterator[None]:
    """The flow file with other generation settings while the block runs, as a user edits it."""
    path = flow / "flow.dag.yaml"
    before = path.read_text(encoding="utf-8")
    dag = yaml.safe_load(before)
    dag["node_variants"]["chat"]["variants"]["greedy"]["node"]["inputs"] |= settings
    path.write_text(yaml.safe_dump(dag, allow_unicode=True), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(before, encoding="utf-8")


@pytest.fixture
def ask(flow: Path) -> Ask:
    """Run the flow in this process, as ``pf flow test`` does; returns the answer."""
    client = importlib.import_module("promptflow.client").PFClient()

    def run(question: str = "Hello?", **inputs: Any) -> str:
        settings = {name: inputs.pop(name) for name in list(inputs) if name != "chat_history"}
        with generating(flow, **settings) if settings else nullcontext():
            result = client.test(flow=str(flow), inputs={"question": question, **inputs})
        answer = result["answer"]
        return answer if isinstance(answer, str) else "".join(answer)

    return run


Pf = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def pf() -> Pf:
    """Run the real ``pf`` command from the repository root."""
    command = shutil.which("pf", path=sysconfig.get_path("scripts"))
    assert command, "pf is not installed beside this Python"

    def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        utf8 = {"PYTHONIOENCODING": "utf-8", "PYTHONUTF8": "1", **env}
        return subprocess.run(
            [command, *arguments],
            cwd=ROOT,
            env=os.environ | utf8,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    return run
