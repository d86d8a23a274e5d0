"""The client without the flow: TLS, threads, reply details, errors as objects."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flows.chat.scoring_client import (
    Endpoint,
    EndpointError,
    Generation,
    Settings,
    ThrottledError,
    TimedOutError,
    UnavailableError,
)
from tests.scripted.server import Server, running
from tests.scripted.steps import delta, events, never, raw, reply, trickle
from tests.scripted.tls import use_tls

ASK = [{"role": "user", "content": "Hello?"}]
ANSWER = {
    "output": "Hi.",
    "finish_reason": "length",
    "usage": {"completion_tokens": 2},
    "model": "m",
}


def endpoint_of(url: str, **values: str) -> Endpoint:
    return Endpoint(Settings.from_values({"endpoint": url, "key": "s3cret", **values}))


@pytest.fixture
def tls_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with running() as server:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(use_tls(server, tmp_path)))
        yield server


def test_tls(tls_server: Server) -> None:
    endpoint = endpoint_of(f"https://127.0.0.1:{tls_server.server_port}/score")
    tls_server.play(reply(ANSWER))
    assert [endpoint.complete(ASK).text for _ in range(3)] == ["Hi."] * 3
    assert tls_server.connections == 1


@pytest.mark.parametrize("step", [never(), trickle(), trickle(headers=True)])
def test_total_timeout_over_tls(tls_server: Server, step: object) -> None:
    endpoint = endpoint_of(f"https://127.0.0.1:{tls_server.server_port}/score", timeout="0.7")
    tls_server.play(step)  # type: ignore[arg-type]
    started = time.monotonic()
    with pytest.raises(TimedOutError):
        endpoint.complete(ASK)
    assert time.monotonic() - started < 2


def test_untrusted_certificate(tls_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    endpoint = endpoint_of(f"https://127.0.0.1:{tls_server.server_port}/other")
    with pytest.raises(UnavailableError, match="TLS certificate is not trusted"):
        endpoint.complete(ASK)


def test_netrc_does_not_replace_the_key(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server.play(reply(ANSWER))
    endpoint_of(f"{server.url}/score").complete(ASK)
    assert server.received[0].headers["authorization"] == "Bearer s3cret"


def test_a_cut_answer_says_so(server: Server) -> None:
    server.play(reply(ANSWER))
    answer = endpoint_of(f"{server.url}/score").complete(ASK)
    assert answer.finish_reason == "length"
    assert (answer.usage, answer.model) == ({"completion_tokens": 2}, "m")


def test_a_stream_returns_its_reply(server: Server) -> None:
    server.play(events(delta("Hi"), delta("."), delta("", "length")))
    pieces = endpoint_of(f"{server.url}/v1").stream(ASK)
    assert [next(pieces), next(pieces)] == ["Hi", "."]
    with pytest.raises(StopIteration) as end:
        next(pieces)
    assert end.value.value.text == "Hi."
    assert end.value.value.finish_reason == "length"


def test_threads_share_connections(server: Server) -> None:
    endpoint = endpoint_of(f"{server.url}/score")
    server.play(reply(ANSWER))
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: endpoint.complete(ASK).text, range(200)))
    assert answers == ["Hi."] * 200
    assert server.connections <= 8


def test_a_question_asked_again_after_a_timeout_is_answered(server: Server) -> None:
    endpoint = endpoint_of(f"{server.url}/score", timeout="0.3")
    server.play(never())
    with pytest.raises(TimedOutError):
        endpoint.complete(ASK)
    server.play(reply(ANSWER))
    assert endpoint.complete(ASK, Generation(seed=3)).text == "Hi."
    assert server.received[0].body["input_data"]["parameters"]["seed"] == 3


@pytest.mark.parametrize("said", ['k+/\\"y=', r"k+/\\\"y=", "k%2B%2F%5C%22y%3D"])
def test_an_echoed_key_is_removed_however_it_is_written(server: Server, said: str) -> None:
    server.play(raw(f"no {said} here".encode(), "text/plain", 400))
    endpoint = Endpoint(
        Settings.from_values({"endpoint": f"{server.url}/score", "key": 'k+/\\"y='})
    )
    with pytest.raises(EndpointError, match=r"it says: no \*\*\* here"):
        endpoint.complete(ASK)


def test_errors_survive_pickling() -> None:
    error = ThrottledError("busy", "host/score", "wait")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(again) is ThrottledError
    assert str(again) == str(error) == "busy (host/score). Fix: wait"
    assert isinstance(again, EndpointError)
