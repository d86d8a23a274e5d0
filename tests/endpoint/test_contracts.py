"""What the endpoint answers to good and bad requests, asked over HTTP of the real model."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import Any

import pytest
import requests

from tests.home import Home, ask, ask_openai

CAPITAL = "What is the capital of France?"


def test_score_answers_as_azure_does(home: Home) -> None:
    reply = home.call("/score", ask(CAPITAL))
    body = reply.json()
    assert reply.status_code == 200
    assert "Paris" in body["output"]
    assert body["message"] == {"role": "assistant", "content": body["output"]}
    assert body["finish_reason"] == "stop"
    assert body["model"] == "base"
    assert body["usage"]["completion_tokens"] > 0
    assert reply.headers["x-ms-request-id"]


def test_both_contracts_give_the_same_greedy_answer(home: Home) -> None:
    score = home.call("/score", ask(CAPITAL)).json()["output"]
    chat = home.call("/v1/chat/completions", ask_openai(CAPITAL)).json()
    assert chat["choices"][0]["message"]["content"] == score


def test_stream_is_the_same_answer_in_pieces(home: Home) -> None:
    reply = home.call("/v1/chat/completions", ask_openai(CAPITAL, stream=True))
    events = [line[6:] for line in reply.text.splitlines() if line.startswith("data: ")]
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert events.pop() == "[DONE]"
    pieces = [json.loads(event)["choices"][0]["delta"].get("content") or "" for event in events]
    assert len([piece for piece in pieces if piece]) > 3
    assert "".join(pieces) == home.call("/score", ask(CAPITAL)).json()["output"]


def test_whole_conversation_reaches_the_model(home: Home) -> None:
    messages = [
        {"role": "system", "content": "Answer in one sentence."},
        {"role": "user", "content": "My name is Ada. Please remember it."},
        {"role": "assistant", "content": "Of course, Ada. I will remember your name."},
        {"role": "user", "content": "What is my name?"},
    ]
    body = ask("")
    body["input_data"]["input_string"] = messages
    read = home.call("/score", body).json()["usage"]["prompt_tokens"]
    assert read == home.call("/tokenize", {"messages": messages}).json()["count"]


def test_do_sample_false_is_greedy(home: Home) -> None:
    hot = ask(CAPITAL, temperature=1.9, do_sample=False)
    assert (
        home.call("/score", hot).json()["output"]
        == home.call("/score", ask(CAPITAL)).json()["output"]
    )


def test_tokenizer_counts_what_the_model_reads(home: Home) -> None:
    messages = [{"role": "user", "content": "Grüße aus 東京 🙂"}]
    counted = home.call("/tokenize", {"messages": messages}).json()
    used = home.call("/v1/chat/completions", {"messages": messages, "max_tokens": 1}).json()
    assert counted["count"] == len(counted["tokens"]) == used["usage"]["prompt_tokens"]
    assert counted["max_model_len"] == 2048
    assert home.call("/tokenize", {"prompt": "hello"}).json()["count"] == 1


def _nested() -> dict[str, Any]:
    body = ask("x")
    body["input_data"]["input_string"] = [body["input_data"]["input_string"]]
    return body


def _with_role(role: str) -> dict[str, Any]:
    body = ask("x")
    body["input_data"]["input_string"][0]["role"] = role
    return body


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        (b"{not json", 400, "not JSON"),
        (b"\xff\xfe", 400, "not JSON"),
        (b"[" * 100_000, 400, "not JSON"),
        (b"[]", 422, "body"),
        ({}, 422, "input_data"),
        (_nested(), 422, "input_data.input_string.0"),
        (_with_role("wizard"), 422, "input_data.input_string.0.role"),
        ({"input_data": {"input_string": []}}, 422, "input_data.input_string"),
        (ask("x", max_new_tokens=-1), 422, "max_new_tokens"),
        (ask("x", temperature="hot"), 422, "temperature"),
        (ask("x", temperature=-0.1), 422, "temperature"),
        (ask("x", top_p=0), 422, "top_p"),
        (ask("word " * 3000), 400, "context"),
        (ask("x" * 5_000_000), 413, "larger than 1048576 bytes"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else None,
)
def test_bad_request_is_refused(home: Home, body: Any, status: int, named: str) -> None:
    reply = home.call("/score", body)
    assert reply.status_code == status
    assert named in reply.json()["error"]["message"]
    assert home.call("/score", ask(CAPITAL, max_new_tokens=1)).status_code == 200


def test_openai_requests_are_checked_too(home: Home) -> None:
    empty: dict[str, Any] = {"messages": []}
    for bad in (empty, ask_openai("x", max_tokens=0), ask_openai("x", n=3)):
        assert home.call("/v1/chat/completions", bad).status_code == 422
    parts = [{"type": "text", "text": CAPITAL}]
    good = {"messages": [{"role": "user", "content": parts}], "temperature": 0, "max_tokens": 24}
    reply = home.call("/v1/chat/completions", good).json()
    assert "Paris" in reply["choices"][0]["message"]["content"]


def test_every_route_but_liveness_wants_the_key(home: Home) -> None:
    for route in ("/score", "/v1/chat/completions", "/tokenize"):
        assert requests.post(home.url + route, json=ask(CAPITAL), timeout=10).status_code == 401
        assert home.call(route, ask("x"), Authorization="Bearer wrong").status_code == 401
        assert home.call(route, ask("x"), Authorization=home.key()).status_code == 401
    for route in ("/metrics", "/swagger.json", "/v1/models", "/manage"):
        assert requests.get(home.url + route, timeout=10).status_code == 401
    scoring = {"Authorization": f"Bearer {home.key()}"}
    assert requests.get(f"{home.url}/manage", headers=scoring, timeout=10).status_code == 401
    assert requests.get(f"{home.url}/", timeout=10).status_code == 200
    assert requests.get(f"{home.url}/health", timeout=10).json()["status"] == "ok"


def test_unknown_route_method_and_deployment(home: Home) -> None:
    assert home.call("/nope", {}).status_code == 404
    assert home.call("/score", None, "GET").status_code == 405
    missing = home.call("/score", ask("x"), **{"azureml-model-deployment": "nope"})
    assert missing.status_code == 404
    assert "nope" in missing.json()["error"]["message"]


def test_model_names_a_deployment_or_the_endpoint(home: Home) -> None:
    listed = [row["id"] for row in home.call("/v1/models", None, "GET").json()["data"]]
    assert listed == ["phi-local", "base"]
    for model, status in (("base", 200), ("phi-local", 200), ("nope", 404)):
        body = ask_openai("Hi", max_tokens=1, model=model)
        assert home.call("/v1/chat/completions", body).status_code == status


def test_broken_encodings_are_refused(home: Home) -> None:
    key = {"Authorization": "Bearer \xff"}
    assert home.call("/score", ask("x"), **key).status_code == 401
    zipped = {"Content-Encoding": "gzip"}
    assert home.call("/score", b"this is not gzip", **zipped).status_code == 400
    assert home.manage("PUT", "/deployments/a%2Fb", {"model_path": "x"}).status_code == 422


def test_swagger_names_the_fields_that_are_checked(home: Home) -> None:
    document = home.call("/swagger.json", None, "GET").json()
    fields = document["components"]["schemas"]["InputData"]["properties"]
    assert set(fields) == {"input_string", "parameters"}
    assert set(document["paths"]) == {"/score", "/v1/chat/completions", "/tokenize"}


def _send(home: Home, request: str) -> None:
    with socket.create_connection(("127.0.0.1", home.port), timeout=10) as client:
        client.sendall(request.encode())
        client.settimeout(3)
        with contextlib.suppress(OSError):
            while client.recv(4096):
                pass


def test_metrics_and_log_count_but_do_not_quote(home: Home) -> None:
    home.call("/score", ask("Say the word zanzibar."))
    _send(home, f"POST /score HTTP/1.1\r\nAuthorization: Bearer {home.key()}\x01\r\n\r\n")
    head = f"POST /score HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {home.key()}\r\n"
    _send(home, head + "Transfer-Encoding: chunked\r\n\r\nzanzibar\r\n")
    text = home.call("/metrics", None, "GET").text
    assert 'endpoint_requests_total{deployment="base",route="/score",status="200"}' in text
    assert 'endpoint_tokens_total{deployment="base",kind="completion"}' in text
    last = next(line for line in reversed(home.log()) if line.get("route") == "/score")
    assert last["status"] == 200
    assert last["completion_tokens"] > 0
    everything = "".join(p.read_text(errors="replace") for p in home.folder.glob("*.log*"))
    assert "zanzibar" not in everything
    assert home.key() not in everything
