"""The container of a GGUF deployment, without Docker: its build context alone, as a process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import requests
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from flows.chat.scoring_client import Endpoint, Generation, Settings
from setup.azure.deploy.container import write_context
from setup.serve.container.serve import settings_from
from tests.home import ROOT, ask, ask_openai, free_port
from tests.tiny import CONTEXT, make_tiny_llama

DEADLINE = 60.0
# What the image is, as far as requirements depend on it.
IMAGE = {"extra": "", "python_version": "3.11", "sys_platform": "linux", "platform_system": "Linux"}


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the image is built from."""
    folder = tmp_path_factory.mktemp("image")
    write_context(folder)
    return folder


def start(context: Path, model: Path, port: int) -> subprocess.Popen[str]:
    """The image's command, in an environment as Azure ML gives it."""
    command = re.findall(r'"([^"]+)"', (context / "Dockerfile").read_text().splitlines()[-1])
    given = {
        "AZUREML_MODEL_DIR": str(model),
        "DEPLOYMENT": "tuned-3",
        "CONTEXT_WINDOW": str(CONTEXT),
        "SLOTS": "2",
        "REQUEST_TIMEOUT": "30",
        "START_TIMEOUT": str(DEADLINE),
        "HOST": "127.0.0.1",
        "PORT": str(port),
    }
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | given
    assert command[0] == "python"
    return subprocess.Popen(
        [sys.executable, *command[1:]],
        cwd=context,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def url(context: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The container's address, its model ready; it must end well when it is told to."""
    root = tmp_path_factory.mktemp("models")
    (root / "trained_model").mkdir()
    make_tiny_llama(root / "made").rename(root / "trained_model" / "model.gguf")
    port = free_port()
    process = start(context, root, port)
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + DEADLINE
    while status(f"{address}/health") != 200:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield address
    process.terminate()
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert '"message": "draining"' in output
    assert "/live" not in output  # probes would bury what people look for


def status(url: str) -> int:
    """The status of a GET, 0 where nobody listens."""
    try:
        return requests.get(url, timeout=5).status_code
    except requests.ConnectionError:
        return 0


def test_probes_are_answered(url: str) -> None:
    assert [status(url + route) for route in ("/", "/live", "/health")] == [200, 200, 200]


def test_flow_is_answered_behind_azures_front_end(url: str) -> None:
    values = {"endpoint": f"{url}/score", "key": "azures-own", "deployment": "another-name"}
    messages = [{"role": "user", "content": "What is in the box?"}]
    answer = Endpoint(Settings.from_values(values)).complete(messages, Generation(max_new_tokens=8))
    assert answer.text
    assert answer.model == "tuned-3"


def test_both_contracts_without_a_key(url: str) -> None:
    scored = requests.post(f"{url}/score", json=ask("Hello"), timeout=30)
    assert scored.json()["output"]
    chat = requests.post(f"{url}/v1/chat/completions", json=ask_openai("Hello"), timeout=30)
    assert chat.json()["choices"][0]["message"]["content"] == scored.json()["output"]
    body = ask_openai("Hello") | {"stream": True}
    stream = requests.post(f"{url}/v1/chat/completions", json=body, timeout=30)
    assert stream.text.rstrip().endswith("data: [DONE]")
    assert requests.post(f"{url}/score", json={}, timeout=30).status_code == 400
    assert requests.get(f"{url}/manage", timeout=30).status_code == 401


def test_broken_model_ends_the_container(context: Path, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUFnonsense")
    process = start(context, tmp_path, free_port())
    output, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert "did not load" in output


def test_folder_without_the_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"holds 0 \.gguf files"):
        settings_from({"AZUREML_MODEL_DIR": str(tmp_path)})
    with pytest.raises(SystemExit, match="/var/azureml-app/azureml-models holds 0"):
        settings_from({})


def test_versions_are_those_of_the_lock_and_none_is_missing(context: Path) -> None:
    lock = (ROOT / "requirements.txt").read_text()
    pins = re.findall(r"^([\w-]+)==(\S+)", (context / "requirements.txt").read_text(), re.MULTILINE)
    assert len(pins) > 5
    needed = set()
    for name, version in pins:
        assert re.search(rf"^{re.escape(name)}=={re.escape(version)}\s", lock, re.MULTILINE), name
        wanted = map(Requirement, metadata.requires(name) or [])
        here = [one for one in wanted if not one.marker or one.marker.evaluate(IMAGE)]
        needed |= {canonicalize_name(one.name) for one in here}
    assert needed <= {canonicalize_name(name) for name, _ in pins}
