"""Deployments come, go and break while the endpoint runs; the endpoint dies and comes back."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.conftest import MakeHome
from tests.home import Home, ask


@pytest.fixture(scope="module")
def home(make_home: MakeHome) -> Home:
    home = make_home("model.context_window=512", "endpoint.slots=2")
    assert home.setup("deploy").returncode == 0
    return home


def _settings(home: Home, **changes: Any) -> dict[str, Any]:
    row = home.manage("GET").json()["deployments"]["base"]
    kept = ("model_path", "context_window", "slots", "queue", "request_timeout", "start_timeout")
    return {key: row[key] for key in kept} | changes


def _pid(home: Home) -> int:
    return int(json.loads((home.folder / "endpoint.pid").read_text())["pid"])


def _only_engine(home: Home) -> psutil.Process:
    """The engine process, once those on their way out have ended."""
    deadline = time.monotonic() + 20
    while len(engines := psutil.Process(_pid(home)).children()) != 1:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return engines[0]


def test_second_deploy_changes_nothing(home: Home) -> None:
    pid = _pid(home)
    done = home.setup("deploy", "--json")
    assert json.loads(done.stdout)["changed"] is False
    assert _pid(home) == pid


def test_deployment_is_added_given_traffic_and_removed(home: Home) -> None:
    assert home.manage("PUT", "/deployments/second", _settings(home)).status_code == 201
    assert home.manage("PUT", "/deployments/second", _settings(home)).json() == {"changed": False}

    def answering(**headers: str) -> str:
        return str(home.call("/score", ask("Hi", max_new_tokens=1), **headers).json()["model"])

    assert {answering() for _ in range(5)} == {"base"}
    assert answering(**{"azureml-model-deployment": "second"}) == "second"
    assert home.manage("PUT", "/traffic", {"base": 50, "second": 50}).status_code == 200
    assert {answering() for _ in range(30)} == {"base", "second"}
    assert home.manage("DELETE", "/deployments/second").status_code == 409
    assert home.manage("PUT", "/traffic", {"base": 100}).status_code == 200
    assert home.manage("DELETE", "/deployments/second").status_code == 204
    assert home.manage("DELETE", "/deployments/second").status_code == 404
    assert answering() == "base"


@pytest.mark.parametrize(
    "traffic", [{"base": 90}, {"base": 101}, {"nope": 100}, {"base": -1}, {"base": "all"}, []]
)
def test_bad_traffic_is_refused(home: Home, traffic: Any) -> None:
    assert home.manage("PUT", "/traffic", traffic).status_code == 422
    assert home.manage("GET").json()["deployments"]["base"]["traffic"] == 100


def test_replacing_a_deployment_loses_no_request(home: Home) -> None:
    stop = threading.Event()

    def client(_: int) -> Counter[int]:
        seen: Counter[int] = Counter()
        while not stop.is_set():
            seen[home.call("/score", ask("Hi", max_new_tokens=4)).status_code] += 1
        return seen

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client, number) for number in range(8)]
        time.sleep(0.5)
        replaced = home.manage("PUT", "/deployments/base", _settings(home, context_window=1024))
        time.sleep(0.5)
        stop.set()
        seen = sum((client.result() for client in clients), Counter[int]())
    assert replaced.status_code == 201
    assert set(seen) == {200}
    row = home.manage("GET").json()["deployments"]["base"]
    assert row["context_window"] == 1024


def test_broken_model_is_refused_and_the_old_one_answers_on(home: Home, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(1000))
    for path in (broken, tmp_path / "missing.gguf"):
        body = _settings(home, model_path=str(path))
        reply = home.manage("PUT", "/deployments/base", body)
        assert reply.status_code == 424
        assert str(path) in reply.json()["error"]["message"]
    assert home.call("/score", ask("Hi", max_new_tokens=1)).status_code == 200


def test_abandoned_deployment_leaves_no_engine_behind(home: Home) -> None:
    headers = {"Authorization": f"Bearer {home.key('management')}"}
    engine = _only_engine(home)
    with pytest.raises(requests.Timeout):
        requests.put(
            f"{home.url}/manage/deployments/abandoned",
            json=_settings(home),
            headers=headers,
            timeout=0.2,
        )
    assert _only_engine(home) == engine
    assert "abandoned" not in home.manage("GET").json()["deployments"]


def test_engine_that_dies_is_started_again(home: Home) -> None:
    _only_engine(home).kill()
    deadline = time.monotonic() + 20
    statuses = set()
    while (status := home.call("/score", ask("Hi", max_new_tokens=1)).status_code) != 200:
        statuses.add(status)
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert statuses <= {424, 503}
    assert any(line["message"] == "engine died" for line in home.log())


def test_kill_9_then_deploy_recovers(home: Home) -> None:
    process = psutil.Process(_pid(home))
    engines = process.children()
    process.kill()
    process.wait(10)
    psutil.wait_procs(engines, timeout=10)
    assert not any(engine.is_running() for engine in engines), "an engine was left behind"
    key = home.key()
    assert home.setup("status").returncode == 1
    assert home.setup("deploy").returncode == 0
    assert home.key() == key
    assert home.call("/score", ask("Hi", max_new_tokens=1)).status_code == 200


def test_pid_file_of_a_stranger_is_not_believed(make_home: MakeHome) -> None:
    home = make_home()
    home.folder.mkdir(parents=True)
    started = psutil.Process().create_time() - 1000
    stale = {"pid": psutil.Process().pid, "started": started, "host": "127.0.0.1", "port": 1}
    (home.folder / "endpoint.pid").write_text(json.dumps(stale))
    assert home.setup("status").returncode == 1
    assert home.setup("stop").stdout.startswith("stop: endpoint phi-local was not running")


def test_taken_port_names_who_holds_it(make_home: MakeHome) -> None:
    home = make_home()
    with socket.create_server(("127.0.0.1", home.port)):
        done = home.setup("deploy")
    assert done.returncode == 1
    assert f"port {home.port} is held by" in done.stderr
    assert f"(pid {psutil.Process().pid})" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_other_port_for_a_running_endpoint_is_refused(home: Home) -> None:
    done = home.run("-m", "setup", "deploy", "--set", f"endpoint.port={home.port + 1}")
    assert done.returncode == 1
    assert f"runs on port {home.port}" in done.stderr
