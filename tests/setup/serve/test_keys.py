"""Keys that are made anew while clients go on asking, and how often one key may ask."""

from __future__ import annotations

import json
import threading
from collections import Counter
from typing import Any

import pytest
import requests

from tests.conftest import MakeHome
from tests.home import Home, ask, ask_openai, failed
from tests.setup.serve.replies import refusals

CHAT = "/v1/chat/completions"


def _renew(home: Home, *arguments: str) -> dict[str, Any]:
    done = home.run("-m", "setup", "regenerate-keys", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def _status(home: Home, key: str) -> int:
    return int(home.call("/v1/models", None, "GET", Authorization=f"Bearer {key}").status_code)


def test_new_key_comes_without_a_restart_and_the_old_one_stays(home: Home) -> None:
    process, old, oldest = home.manage("GET").json(), home.key(), home.key("secondary")
    assert _status(home, oldest) == 200
    result = _renew(home)
    assert result["next"] == "python -m setup connect"
    new = home.key()
    assert len({new, old, oldest}) == 3
    assert [_status(home, key) for key in (new, old, oldest)] == [200, 200, 401]
    assert home.key("secondary") == old
    _renew(home, "--key-type", "secondary")
    assert [_status(home, key) for key in (new, old, home.key("secondary"))] == [200, 401, 200]
    _renew(home, "--key-type", "primary")
    assert [_status(home, key) for key in (new, home.key(), home.key("secondary"))] == [
        401,
        200,
        200,
    ]
    assert home.manage("GET").json()["name"] == process["name"]
    everything = "".join(p.read_text(errors="replace") for p in home.folder.glob("*.log*"))
    assert not [key for key in (new, old, oldest, home.key()) if key in everything]


def test_a_key_named_otherwise_than_by_key_is_refused(home: Home) -> None:
    before = (home.key(), home.key("secondary"))
    reply = home.manage("POST", "/keys", {"keyType": "secondary"})
    assert reply.status_code == 400
    assert "not keyType" in reply.text
    assert (home.key(), home.key("secondary")) == before


def test_who_asks_with_the_key_of_before_is_answered_on(home: Home) -> None:
    before, seen, stop = home.key(), Counter[int](), threading.Event()

    def client() -> None:
        headers = {"Authorization": f"Bearer {before}"}
        while not stop.is_set():
            reply = requests.post(
                f"{home.url}/score", json=ask("Hi", max_new_tokens=1), headers=headers, timeout=60
            )
            seen[reply.status_code] += 1

    thread = threading.Thread(target=client)
    thread.start()
    _renew(home)
    count = sum(seen.values())
    while sum(seen.values()) < count + 3:
        stop.wait(0.05)
    stop.set()
    thread.join()
    assert set(seen) == {200}


def test_keys_outlive_a_restart_and_change_while_stopped(make_home: MakeHome) -> None:
    home = make_home("model.context_window=512")
    assert "deploy" in failed(home.run("-m", "setup", "regenerate-keys"))
    assert home.setup("deploy").returncode == 0
    assert home.setup("stop").returncode == 0
    before = home.key()
    _renew(home)
    assert home.setup("deploy").returncode == 0
    assert [_status(home, key) for key in (home.key(), before, "")] == [200, 200, 401]


def test_keys_of_an_earlier_version_still_work(make_home: MakeHome) -> None:
    home = make_home("model.context_window=512")
    home.folder.mkdir(parents=True)
    (home.folder / "keys.json").write_text(json.dumps({"scoring": "abc", "management": "xyz"}))
    assert home.setup("deploy").returncode == 0
    assert [_status(home, key) for key in ("abc", "xyz", " ", "")] == [200, 401, 401, 401]
    _renew(home)
    assert [_status(home, key) for key in ("abc", home.key())] == [200, 200]


def test_each_key_has_a_limit_of_its_own(make_home: MakeHome) -> None:
    home = make_home("endpoint.requests_per_minute=3", "model.context_window=512")
    assert home.setup("deploy").returncode == 0
    bodies = [(CHAT, ask_openai("Hi", max_tokens=1)), ("/score", ask("Hi", max_new_tokens=1))]
    for number in range(3):
        route, body = bodies[number % 2]
        assert home.call(route, body).status_code == 200
    for route, body in bodies:
        reply = home.call(route, body)
        error = reply.json()["error"]
        assert (reply.status_code, error["code"]) == (429, "key_rate_limit_exceeded")
        assert 1 <= int(reply.headers["Retry-After"]) <= 60
    other = {"Authorization": f"Bearer {home.key('secondary')}"}
    assert home.call(*bodies[0], **other).status_code == 200
    assert home.call("/tokenize", {"prompt": "x"}).status_code == 200
    text = home.call("/metrics", None, "GET").text
    assert 'endpoint_refusals_total{reason="key_rate_limit_exceeded"} 2.0' in text


def test_limit_follows_the_key_that_becomes_the_secondary_one(make_home: MakeHome) -> None:
    home = make_home("endpoint.requests_per_minute=2", "model.context_window=512")
    assert home.setup("deploy").returncode == 0
    exhausted = home.key()

    def asked(key: str) -> int:
        header = {"Authorization": f"Bearer {key}"}
        return int(home.call("/score", ask("Hi", max_new_tokens=1), **header).status_code)

    assert [asked(exhausted) for _ in range(3)] == [200, 200, 429]
    _renew(home)
    assert home.key("secondary") == exhausted
    assert [asked(exhausted), asked(home.key())] == [429, 200]
    _renew(home, "--key-type", "secondary")
    assert [asked(home.key("secondary")), asked(home.key()), asked(home.key())] == [200, 200, 429]


@pytest.mark.parametrize(
    ("body", "reason", "headers"),
    [
        (b"{", "bad_request", {}),
        (ask_openai("x", lora=[1]), "unsupported_parameter", {}),
        (ask_openai("x", top_p=5), "invalid_value", {}),
        (ask_openai("word " * 3000), "context_length_exceeded", {}),
        (b" " * 1_100_000, "payload_too_large", {}),
        (ask_openai("x"), "invalid_api_key", {"Authorization": "Bearer wrong"}),
        (ask_openai("x"), "missing_api_key", {"Authorization": ""}),
        (ask_openai("x", model="nope"), "model_not_found", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_reason_of_a_refusal_is_counted(
    home: Home, body: Any, reason: str, headers: dict[str, str]
) -> None:
    before = refusals(home, reason)
    assert home.call(CHAT, body, **headers).status_code >= 400
    assert refusals(home, reason) == before + 1
