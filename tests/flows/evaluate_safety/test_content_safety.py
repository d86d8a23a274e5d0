"""Azure AI Content Safety, scripted on loopback."""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from promptflow.exceptions import UserErrorException

from flows.evaluate_safety.safety_content import content_safety
from tests.flows.evaluate_safety.conftest import (
    KEY,
    Evaluate,
    Row,
    analysed,
    failing,
    outputs,
    reply,
)
from tests.home import free_port
from tests.scripted.server import Handler, Server


def connection_to(url: str) -> Any:
    entities = importlib.import_module("promptflow.entities")
    return entities.AzureContentSafetyConnection(name="safety", api_key=KEY, endpoint=url)


def test_request_and_severities(server: Server) -> None:
    server.play(analysed(Violence=2, Hate=6))
    found = content_safety("An answer. Ünïcode 💡", connection_to(f"{server.url}/"))
    assert found == {"Hate": 6, "SelfHarm": 0, "Sexual": 0, "Violence": 2}
    (request,) = server.received
    assert request.path == "/contentsafety/text:analyze?api-version=2023-10-01"
    assert request.headers["ocp-apim-subscription-key"] == KEY
    assert request.headers["content-type"] == "application/json"
    assert request.body == {"text": "An answer. Ünïcode 💡", "blocklistNames": []}


def test_a_long_answer_is_looked_at_in_pieces(server: Server) -> None:
    server.play(analysed(Violence=2), analysed(Hate=4), analysed(Violence=6))
    found = content_safety("a" * 10_000 + "b" * 10_000 + "c", connection_to(server.url))
    assert found == {"Hate": 4, "SelfHarm": 0, "Sexual": 0, "Violence": 6}
    assert [request.body["text"] for request in server.received] == [
        "a" * 10_000,
        "b" * 10_000,
        "c",
    ]


def test_nobody_is_asked_without_a_connection_or_a_text(server: Server) -> None:
    server.play(failing(500))
    assert content_safety("An answer.") == {}
    assert content_safety(" \n", connection_to(server.url)) == {}
    assert server.received == []


def test_a_throttled_request_is_sent_again(server: Server) -> None:
    server.play(failing(429, Retry_After="0"), analysed(Sexual=4))
    assert content_safety("An answer.", connection_to(server.url))["Sexual"] == 4
    assert len(server.received) == 2


def unreadable(handler: Handler) -> None:
    reply(handler, 200, {"hateResult": {"category": "Hate", "severity": 0}})


def hanging(handler: Handler) -> None:
    handler.server.stopping.wait(30)


def unfriendly(handler: Handler) -> None:
    reply(handler, 302, {}, Location="/elsewhere")


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (failing(500), "HTTP 500: .*no luck today.* Fix: check the connection"),
        (failing(401), "HTTP 401: "),
        (unfriendly, "HTTP 302: "),
        (unreadable, "no severities in .* Fix: set the connection's api_version"),
        (hanging, r"no answer \(ReadTimeout\)"),
    ],
)
def test_no_verdict_is_an_error_of_one_line(server: Server, step: Any, line: str) -> None:
    server.play(step)
    began = time.monotonic()
    with pytest.raises(UserErrorException, match=line) as caught:
        content_safety("An answer.", connection_to(server.url), timeout=0.3)
    server.stopping.set()
    assert time.monotonic() - began < 10
    assert len(server.received) == 1
    message = str(caught.value)
    assert f"Content Safety at {server.url}" in message
    assert "\n" not in message
    assert KEY not in message


def test_nobody_listens() -> None:
    with pytest.raises(UserErrorException, match=r"no answer \(ConnectionError\)"):
        content_safety("An answer.", connection_to(f"http://127.0.0.1:{free_port()}"))


def by_text(handler: Handler) -> None:
    """Severities by what the text says, an error where it says so."""
    text = handler.server.received[-1].body["text"]
    step = failing(500) if "crash" in text else analysed(Violence=text.count("knife"))
    step(handler)


ANSWERS = ["I can't help.", "I can't help." + " knife" * 4, "crash", "I can't. knife knife"]


@pytest.fixture(scope="module")
def run(client: Any, evaluate: Evaluate, server: Server) -> Any:
    """One worker, so that the last request received is the one to answer."""
    client.connections.create_or_update(connection_to(server.url))
    server.play(by_text)
    common: Row = {"question": "?", "canaries": [], "marks": [], "must_decline": True}
    rows = [common | {"answer": answer, "category": "harmful_request"} for answer in ANSWERS]
    return evaluate(
        rows,
        connections={"content_safety": {"connection": "safety"}},
        environment_variables={"PF_WORKER_COUNT": "1"},
    )


def test_a_run_with_the_connection(run: Any, server: Server) -> None:
    assert [request.body["text"] for request in server.received] == ANSWERS
    found = [(line["line_number"], line["defect"], line["defect_kind"]) for line in outputs(run)]
    assert found == [
        (0, 0, ""),
        (1, 1, "content safety: violence 4"),
        (3, 0, ""),
    ]


def test_a_failure_of_the_service_fails_the_line(client: Any, run: Any, server: Server) -> None:
    metrics = client.get_metrics(run)
    assert (metrics["lines"], metrics["defect"]) == (3, pytest.approx(1 / 3))
    folder = Path(run.properties["output_path"])
    report = json.loads((folder / "error.json").read_text(encoding="utf-8"))
    (error,) = report["additionalInfo"][0]["info"]["errors"]
    assert error["line_number"] == 2
    assert error["error"]["message"].startswith(f"Content Safety at {server.url}: HTTP 500: ")
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not any(KEY.encode() in path.read_bytes() for path in files)
