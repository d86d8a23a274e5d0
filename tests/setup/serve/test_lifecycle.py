"""Deployments come, go and break while the endpoint runs; the endpoint dies and comes back."""

from __future__ import annotations

import json
import os
import shutil
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
from tests.home import Home, ask, ask_openai, failed
from tests.recorder import noting_connections

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(make_home: MakeHome) -> Home:
    home = make_home("model.context_window=512", "endpoint.slots=2")
    assert home.setup("deploy").returncode == 0
    return home


def _settings(home: Home, **changes: Any) -> dict[str, Any]:
    row = home.manage("GET").json()["deployments"]["base"]
    state = {"threads", "healthy", "failure", "admitted", "waiting", "traffic"}
    return {key: row[key] for key in set(row) - state} | changes


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
    assert home.manage("PUT", "/traffic", traffic).status_code == 400
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
        reply = home.manage("PUT", "/deployments/base", _settings(home, model_path=str(path)))
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


def test_abandoned_delete_still_ends_the_engine(home: Home) -> None:
    engine = _only_engine(home)
    assert home.manage("PUT", "/deployments/second", _settings(home)).status_code == 201
    slow = ask("Tell me a long story.", max_new_tokens=60, temperature=1.0)
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(home.call, "/score", slow, **{"azureml-model-deployment": "second"})
        time.sleep(0.3)
        with pytest.raises(requests.Timeout):
            requests.delete(
                f"{home.url}/manage/deployments/second",
                headers={"Authorization": f"Bearer {home.key('management')}"},
                timeout=0.2,
            )
        assert reply.result().status_code == 200
    assert _only_engine(home) == engine


def _when_tuned_has_failed(home: Home) -> dict[str, Any]:
    """The deployments; ``deploy`` waits for its own alone."""
    deadline = time.monotonic() + 30
    while not (rows := home.manage("GET").json()["deployments"])["tuned"]["failure"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return dict(rows)


def test_broken_deployment_leaves_the_others_alone(make_home: MakeHome, model: Path) -> None:
    """Ten per cent of the traffic go to a model whose file is lost while the endpoint is down."""
    home = make_home("model.context_window=512")
    assert home.setup("deploy").returncode == 0
    copy = home.path / "copy.gguf"
    shutil.copyfile(model, copy)
    named = ["--set", "endpoint.deployment=tuned", "--set", f"model.source={copy}"]
    done = home.setup("deploy", *named, "--set", "model.precision=keep")
    assert "takes 0 % of the traffic" in done.stdout
    assert home.run("-m", "setup", "traffic", "base=90", "tuned=10").returncode == 0
    assert "must sum" in failed(home.run("-m", "setup", "traffic", "base=90"))
    assert home.setup("stop").returncode == 0
    copy.write_bytes(b"GGUF" + bytes(100))
    assert "takes 90 % of the traffic" in home.setup("deploy").stdout
    rows = _when_tuned_has_failed(home)
    assert rows["base"]["healthy"]
    assert not rows["tuned"]["healthy"]
    assert str(copy) in rows["tuned"]["failure"]
    sent = {"azureml-model-deployment": "tuned"}
    assert home.call("/score", ask("Hi"), **sent).status_code == 503
    assert home.run("-m", "setup", "traffic", "base=100").returncode == 0
    assert home.run("-m", "setup", "delete", "tuned").returncode == 0
    assert list(home.manage("GET").json()["deployments"]) == ["base"]


def test_new_file_of_the_same_name_is_deployed(make_home: MakeHome, model: Path) -> None:
    home = make_home("model.context_window=512")
    copy = home.path / "copy.gguf"
    shutil.copyfile(model, copy)
    sets = ["--set", f"model.source={copy}", "--set", "model.precision=keep", "--json"]
    assert home.setup("deploy", *sets).returncode == 0
    assert json.loads(home.setup("deploy", *sets).stdout)["changed"] is False
    os.utime(copy)
    assert json.loads(home.setup("deploy", *sets).stdout)["changed"] is True


def test_proxy_and_netrc_of_the_environment_are_left_out(home: Home) -> None:
    with noting_connections() as proxy:
        with home.altered(HTTP_PROXY=proxy.url, http_proxy=proxy.url, NO_PROXY="", no_proxy=""):
            assert home.setup("status").returncode == 0
        assert proxy.connections == 0


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
    assert f"runs with port {home.port}, not {home.port + 1}" in done.stderr
    exposed = home.setup("deploy", "--set", "endpoint.host=0.0.0.0")
    assert "runs with host 127.0.0.1, not 0.0.0.0" in exposed.stderr


def test_engine_that_stands_still_is_started_again(make_home: MakeHome) -> None:
    """A short grammar with more ways on than the engine will ever have counted."""
    home = make_home("endpoint.request_timeout=3")
    home.serve()
    endless = ask_openai("Hi", grammar='root ::= (("a"|"aa")?){0,500}')
    assert home.call("/v1/chat/completions", endless).status_code == 408
    deadline = time.monotonic() + 150
    while home.call("/score", ask("Hi", max_new_tokens=2)).status_code != 200:
        assert time.monotonic() < deadline, "the engine still stands"
        time.sleep(0.2)
    assert "engine stands still" in [line["message"] for line in home.log()]
