"""Each scoring contract through the flow: what the endpoint receives, what the user reads."""

from __future__ import annotations

from typing import Any

import pytest

from tests.flows.chat.conftest import KEY, Ask, Connect
from tests.scripted.server import Server, Step
from tests.scripted.steps import delta, events, reply

CHOICE = {"message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}
GOOD: dict[str, list[Any]] = {
    "score": [
        {"output": "Hi."},
        {"output": " Hi.\n", "finish_reason": "length", "usage": {"x": 1}},
    ],
    "mlflow": [["Hi."], [{"0": "Hi."}], {"predictions": ["Hi."]}, ["Hello?Hi."]],
    "openai": [{"choices": [CHOICE], "model": "phi", "usage": {"prompt_tokens": 3}}],
}
QUESTION = [{"role": "user", "content": "Hello?"}]
HISTORY = [
    {"inputs": {"question": "One?", "extra": 1}, "outputs": {"answer": "First."}},
    {"inputs": {"question": "Lost?"}, "outputs": None},
    {"inputs": {"question": "Two?"}, "outputs": {"answer": "Second."}},
]
TURNS = [
    {"role": "user", "content": "Be kind.\n\nOne?"},
    {"role": "assistant", "content": "First."},
    {"role": "user", "content": "Two?"},
    {"role": "assistant", "content": "Second."},
    {"role": "user", "content": "Hello?"},
]


@pytest.mark.parametrize(
    ("contract", "value"), [(contract, value) for contract, all in GOOD.items() for value in all]
)
def test_answer(server: Server, connect: Connect, ask: Ask, contract: str, value: Any) -> None:
    connect(contract, deployment="tuned")
    server.play(reply(value))
    assert ask() == "Hi."
    headers = server.received[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["azureml-model-deployment"] == "tuned"


def test_payload_of_score(server: Server, connect: Connect, ask: Ask) -> None:
    connect("score")
    server.play(reply({"output": "Hi."}))
    ask(chat_history=HISTORY, system_prompt="Be kind.", temperature=0.0, max_new_tokens=9)
    assert server.received[0].body == {
        "input_data": {
            "input_string": TURNS,
            "parameters": {
                "temperature": 0.0,
                "top_p": 1.0,
                "max_new_tokens": 9,
                "do_sample": False,
            },
        }
    }


def test_payload_of_mlflow(server: Server, connect: Connect, ask: Ask) -> None:
    connect("mlflow")
    server.play(reply(["Hi."]))
    ask(chat_history=HISTORY[2:])
    body = server.received[0].body
    assert body["input_data"] == ["user: Two?\nassistant: Second.\nuser: Hello?\nassistant:"]
    assert body["params"]["max_new_tokens"] == 256


def test_payload_of_openai(server: Server, connect: Connect, ask: Ask) -> None:
    connect("openai", model="phi", system_role="native", endpoint=f"{server.url}/v1")
    server.play(reply({"choices": [CHOICE]}))
    ask(chat_history=HISTORY, system_prompt="Be kind.", seed=7)
    assert server.received[0].path == "/v1/chat/completions"
    assert server.received[0].body == {
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "One?"},
            *TURNS[1:],
        ],
        "max_tokens": 256,
        "temperature": 0.0,
        "top_p": 1.0,
        "stream": False,
        "model": "phi",
        "seed": 7,
    }


@pytest.mark.parametrize(
    "step",
    [
        events(
            delta("¡Ho"), ": ping", delta("la! 👋"), delta("", "stop"), {"choices": [], "usage": {}}
        ),
        events(delta("¡Hola! "), delta("👋", "length"), done=False),
        reply({"choices": [{"message": {"content": "¡Hola! 👋"}}]}),
        events(  # two answers, where one was asked for
            {"choices": [{"index": 1, "delta": {"content": "Bye"}}]},
            {"choices": [{"index": 1, "delta": {}}, {"index": 0, "delta": {"content": "¡Hola! "}}]},
            delta("👋", "stop"),
        ),
    ],
)
def test_stream(server: Server, connect: Connect, ask: Ask, step: Step) -> None:
    connect("openai")
    server.play(step)
    assert ask(stream=True) == "¡Hola! 👋"
    assert server.received[0].body["stream"] is True


@pytest.mark.parametrize("contract", ["score", "mlflow"])
def test_stream_of_a_contract_without(
    server: Server, connect: Connect, ask: Ask, contract: str
) -> None:
    connect(contract)
    server.play(reply(GOOD[contract][0]))
    assert ask(stream=True) == "Hi."


@pytest.mark.parametrize(
    "question", ["שלום, מה שלומך?", "👩‍👩‍👧‍👦" * 9, "a\x00b\u2028c", "word " * 20_000]
)
def test_any_text_arrives(server: Server, connect: Connect, ask: Ask, question: str) -> None:
    connect("score", context_window="100000")
    server.play(reply({"output": question}))
    assert ask(question) == question.strip()
    [message] = server.received[0].body["input_data"]["input_string"]
    assert message == {"role": "user", "content": question}


def test_one_connection_serves_many_questions(server: Server, connect: Connect, ask: Ask) -> None:
    connect("score")
    server.play(reply({"output": "Hi."}))
    for _ in range(3):
        ask()
    assert len(server.received) == 3
    assert server.connections <= 1
