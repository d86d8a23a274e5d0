"""What the endpoint answers to good and bad requests, asked over HTTP of the real model."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import Any

import jsonschema
import openai
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
        (b"[]", 400, "body"),
        ({}, 400, "input_data"),
        (_nested(), 400, "input_data.input_string.0"),
        (_with_role("wizard"), 400, "input_data.input_string.0.role"),
        ({"input_data": {"input_string": []}}, 400, "input_data.input_string"),
        (ask("x", max_new_tokens=-1), 400, "max_new_tokens"),
        (ask("x", temperature="hot"), 400, "temperature"),
        (ask("x", temperature=-0.1), 400, "temperature"),
        (ask("x", top_p=0), 400, "top_p"),
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
    for bad in (empty, ask_openai("x", max_tokens=0), ask_openai("x", n=9)):
        assert home.call("/v1/chat/completions", bad).status_code == 400
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


def test_wrong_key_is_told_from_a_missing_one(home: Home) -> None:
    told = {
        None: ("missing_api_key", "no key"),
        f"Basic {home.key()}": ("missing_api_key", "Bearer KEY"),
        "Bearer ": ("missing_api_key", "no key"),
        "Bearer wrong": ("invalid_api_key", "wrong key"),
        f"Bearer {home.key('management')}": ("invalid_api_key", "not a scoring key"),
    }
    for sent, (code, said) in told.items():
        headers = {"Authorization": sent} if sent else {}
        reply = requests.post(f"{home.url}/score", json=ask("x"), headers=headers, timeout=10)
        error = reply.json()["error"]
        assert (reply.status_code, error["type"]) == (401, "authentication_error")
        assert error["code"] == code
        assert said in error["message"]
        assert home.key() not in reply.text


@pytest.mark.parametrize(
    ("key", "fields", "raised", "code"),
    [
        ("wrong", {}, openai.AuthenticationError, "invalid_api_key"),
        ("", {"model": "gpt-4"}, openai.NotFoundError, "model_not_found"),
        ("", {"functions": [{}]}, openai.BadRequestError, "unsupported_parameter"),
        ("", {"temperature": 9}, openai.BadRequestError, "invalid_value"),
        ("", {"stop": "word " * 300_000}, openai.APIStatusError, "payload_too_large"),
        (
            *("", {"messages": [{"role": "user", "content": "word " * 3000}]}),
            *(openai.BadRequestError, "context_length_exceeded"),
        ),
    ],
    ids=["key", "model", "tools", "range", "size", "context"],
)
def test_openais_client_raises_the_class_of_the_failure(
    home: Home, key: str, fields: dict[str, Any], raised: type[openai.APIStatusError], code: str
) -> None:
    client = openai.OpenAI(base_url=f"{home.url}/v1", api_key=key or home.key(), max_retries=0)
    body: dict[str, Any] = {"model": "base", "messages": [{"role": "user", "content": "x"}]}
    with pytest.raises(raised) as caught:
        client.chat.completions.create(**body | fields)
    assert caught.value.code == code


def test_unknown_route_method_and_deployment(home: Home) -> None:
    lost = home.call("/chat/completions", {})
    error = lost.json()["error"]
    assert (lost.status_code, error["code"]) == (404, "route_not_found")
    assert "POST /chat/completions" in error["message"]
    assert "POST /v1/chat/completions" in error["message"]
    wrong = home.call("/score", None, "GET")
    assert wrong.status_code == 405
    assert "takes POST, not GET" in wrong.json()["error"]["message"]
    missing = home.call("/score", ask("x"), **{"azureml-model-deployment": "nope"})
    error = missing.json()["error"]
    assert (missing.status_code, error["code"]) == (404, "deployment_not_found")
    assert "'nope'; there are: base" in error["message"]
    missing = home.call("/v1/chat/completions", ask_openai("x", model="gpt-4"))
    error = missing.json()["error"]
    assert (missing.status_code, error["type"]) == (404, "not_found_error")
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "'gpt-4'; there are: phi-local, base" in error["message"]


def test_log_says_where_a_lost_client_asked_but_no_key(home: Home) -> None:
    home.call(f"/lost/{home.key()}/{'x' * 5000}?prompt=zanzibar", {})
    line = home.logged("/lost/")
    assert line["path"].startswith("/lost/***/xxx")
    assert len(line["path"]) == 200


def test_body_of_exactly_the_limit_is_read(home: Home) -> None:
    for size, status in ((1_048_576, 400), (1_048_577, 413)):
        assert home.call("/score", b" " * size).status_code == status


def test_model_names_a_deployment_or_the_endpoint(home: Home) -> None:
    listed = home.call("/v1/models", None, "GET").json()["data"]
    assert [row["id"] for row in listed] == ["phi-local", "base"]
    assert all(time.time() - 3600 < row["created"] <= time.time() for row in listed)
    for row in listed:
        assert home.call(f"/v1/models/{row['id']}", None, "GET").json() == row
    reply = home.call("/v1/models/no%2Fone", None, "GET")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")
    for model, status in (("base", 200), ("phi-local", 200), ("nope", 404)):
        body = ask_openai("Hi", max_tokens=1, model=model)
        assert home.call("/v1/chat/completions", body).status_code == status


def test_broken_encodings_are_refused(home: Home) -> None:
    key = {"Authorization": "Bearer \xff"}
    assert home.call("/score", ask("x"), **key).status_code == 401
    zipped = {"Content-Encoding": "gzip"}
    assert home.call("/score", b"this is not gzip", **zipped).status_code == 400
    assert home.manage("PUT", "/deployments/a%2Fb", {"model_path": "x"}).status_code == 400


def test_swagger_names_the_fields_that_are_checked(home: Home) -> None:
    document = home.call("/swagger.json", None, "GET").json()
    fields = document["components"]["schemas"]["InputData"]["properties"]
    assert set(fields) == {"input_string", "parameters"}
    assert set(document["paths"]) == {
        "/score",
        "/v1/chat/completions",
        "/tokenize",
        "/feedback",
        "/v1/models",
        "/v1/models/{model}",
    }


@pytest.mark.parametrize(
    ("path", "route", "status"),
    [
        ("/v1/models", "/v1/models", 200),
        ("/v1/models/base", "/v1/models/{model}", 200),
        ("/v1/models/nope", "/v1/models/{model}", 404),
    ],
)
def test_swagger_is_what_is_read(home: Home, path: str, route: str, status: int) -> None:
    document = home.call("/swagger.json", None, "GET").json()
    reply = home.call(path, None, "GET")
    assert reply.status_code == status
    answers = document["paths"][route]["get"]["responses"]
    schema = answers[str(status)]["content"]["application/json"]["schema"]
    assert _is_valid(document, schema, reply.json())
    assert "401" in answers


def test_answers_have_an_id_and_strangers_are_told_the_scheme(home: Home) -> None:
    for fields in ({}, {"stream": True}, {"model": "nope"}):
        reply = home.call("/v1/chat/completions", ask_openai("Hi", max_tokens=1, **fields))
        assert len(reply.headers["x-ms-request-id"]) == 32
    stranger = home.call("/v1/models", None, "GET", Authorization="")
    assert (stranger.status_code, stranger.headers["WWW-Authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize(
    ("route", "body", "status", "valid"),
    [
        ("/tokenize", {"prompt": "x"}, 200, True),
        ("/tokenize", {"prompt": "x", "messages": None}, 200, True),
        ("/tokenize", {}, 400, False),
        ("/tokenize", {"prompt": None}, 400, False),
        ("/tokenize", {"prompt": "x", "messages": [{"role": "user", "content": "x"}]}, 400, False),
        ("/score", ask("x", max_new_tokens=1), 200, True),
        ("/score", ask("x", max_new_tokens=1, stop="y", top_k=None, odd=[]), 200, True),
        ("/score", ask("x", stop=""), 400, False),
        ("/score", ask("x", odd=1), 400, False),
        ("/score", ask("x", return_full_text=0), 400, False),
        ("/v1/chat/completions", ask_openai("x", max_tokens=1, n=1, store=False), 200, True),
        ("/v1/chat/completions", ask_openai("x", n=True), 400, False),
        ("/v1/chat/completions", ask_openai("x", logit_bias={"x": 1}), 400, False),
        ("/v1/chat/completions", ask_openai("x", model="gpt-4"), 404, True),
        ("/v1/chat/completions", ask_openai("word " * 3000), 400, True),
    ],
)
def test_swagger_is_what_is_answered(
    home: Home, route: str, body: dict[str, Any], status: int, valid: bool
) -> None:
    document = home.call("/swagger.json", None, "GET").json()
    operation = document["paths"][route]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    reply = home.call(route, body)
    assert reply.status_code == status
    assert _is_valid(document, schema, body) == valid
    if status != 200:
        answer = operation["responses"][str(status)]["content"]["application/json"]["schema"]
        assert _is_valid(document, answer, reply.json())
    assert {"400", "401", "404", "408", "413", "424", "429", "503"} <= set(operation["responses"])


def _is_valid(document: dict[str, Any], schema: dict[str, Any], value: Any) -> bool:
    whole = schema | {"components": document["components"]}
    return bool(jsonschema.Draft202012Validator(whole).is_valid(value))


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
