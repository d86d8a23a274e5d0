"""What fits the context window: through the flow, and the arithmetic on its own."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from flows.chat.scoring_client import Message, TokenCount
from flows.chat.scoring_client.conversation import Window, build_messages, estimate
from tests.flows.chat.conftest import Ask, Connect
from tests.flows.chat.test_failures import fails
from tests.scripted.server import Handler, Server
from tests.scripted.steps import reply


def history(turns: int, words: int = 30) -> list[dict[str, Any]]:
    """Turns whose texts start with their number."""
    return [
        {
            "inputs": {"question": f"q{n} " + "one " * words},
            "outputs": {"answer": f"a{n} " + "two " * words},
        }
        for n in range(turns)
    ]


def contents(server: Server, request: int = -1) -> list[str]:
    body = server.received[request].body
    return [message["content"] for message in body["input_data"]["input_string"]]


def words_counted(limit: int | None = None) -> Any:
    """A tokenizer for which a word is a token, and the list of what it was asked."""
    asked: list[list[Message]] = []

    def count(messages: list[Message]) -> TokenCount:
        asked.append(messages)
        return TokenCount(sum(len(m["content"].split()) for m in messages), limit)

    return count, asked


def test_newest_turns_and_system_text_survive(server: Server, connect: Connect, ask: Ask) -> None:
    connect("score", context_window="600")
    server.play(reply({"output": "Hi."}))
    ask("last", chat_history=history(50), system_prompt="Be kind.", max_new_tokens=100)
    sent = contents(server)
    kept = [int(number) for number in re.findall(r"q(\d+) ", " ".join(sent))]
    assert sent[0].startswith(f"Be kind.\n\nq{kept[0]} ")
    assert sent[-1] == "last"
    assert kept == list(range(50 - len(kept), 50))
    assert 1 < len(kept) < 10
    roles = [m["role"] for m in server.received[0].body["input_data"]["input_string"]]
    assert roles == ["user", "assistant"] * len(kept) + ["user"]


def test_tokenizer_decides_where_the_estimate_may_be_wrong(
    server: Server, connect: Connect, ask: Ask
) -> None:
    def play(handler: Handler) -> None:
        body = server.received[-1].body
        if handler.path == "/tokenize":
            count = sum(len(m["content"].split()) for m in body["messages"])
            reply({"count": count, "max_model_len": 400, "tokens": []})(handler)
        else:
            reply({"output": "Hi."})(handler)

    connect("score", tokenizer=f"{server.url}/tokenize", context_window="4096")
    server.play(play)
    ask("short", chat_history=history(2), max_new_tokens=85)
    assert [received.path for received in server.received] == ["/score"]

    server.play(play)
    ask("last", chat_history=history(64), max_new_tokens=85)
    paths = [received.path for received in server.received]
    assert paths.count("/tokenize") <= 7
    assert paths[-1] == "/score"
    assert {r.headers["authorization"] for r in server.received} == {
        server.received[0].headers["authorization"]
    }
    assert len(contents(server)) == 2 * 5 + 1


def test_tokenizer_failure_names_the_tokenizer(server: Server, connect: Connect, ask: Ask) -> None:
    connect("score", tokenizer=f"{server.url}/tokenize", context_window="600")
    server.play(reply({"tokens": []}))
    fails(ask, "BadPayloadError", "/tokenize)", 3, chat_history=history(9))


@pytest.mark.parametrize(
    ("inputs", "kind", "says"),
    [
        ({"question": ""}, "InputError", "question is empty"),
        ({"question": " \n\t"}, "InputError", "question is empty"),
        ({"question": "x" * 100_000}, "QuestionTooLargeError", "tokens and 3840 fit"),
        ({"system_prompt": "🙂" * 9000}, "QuestionTooLargeError", "with its system text"),
        ({"max_new_tokens": 4096}, "ConfigurationError", "leaves no room"),
        ({"max_new_tokens": 0}, "InputError", "max_new_tokens is 0"),
        ({"temperature": 3.0}, "InputError", "temperature is 3.0"),
        ({"top_p": 0.0}, "InputError", "top_p is 0.0"),
        ({"chat_history": ["hello"]}, "InputError", "entry 0 that is not an object"),
        ({"chat_history": [{"question": "x"}]}, "InputError", "entry 0 without inputs.question"),
        (
            {"chat_history": [{"inputs": {"question": "x"}, "outputs": "y"}]},
            "InputError",
            "entry 0 whose outputs are not an object",
        ),
        (
            {"chat_history": [{"inputs": {"question": "x"}, "outputs": {"answer": 1}}]},
            "InputError",
            "entry 0 whose outputs.answer is not text",
        ),
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_refused_before_anything_is_sent(
    *, server: Server, connect: Connect, ask: Ask, inputs: dict[str, Any], kind: str, says: str
) -> None:
    connect("score")
    fails(ask, kind, says, 3, **inputs)
    assert server.received == []


@pytest.mark.parametrize("role", ["fold", "native"])
@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("context", [80, 120, 200, 4000])
def test_roles_alternate(role: str, turns: int, context: int) -> None:
    messages = build_messages(
        "ask", history(turns, 5), "Sys", Window(context, 10), system_role=role
    )
    if role == "native":
        assert messages.pop(0) == {"role": "system", "content": "Sys"}
    else:
        assert messages[0]["content"].startswith("Sys\n\n")
    roles = [message["role"] for message in messages]
    assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]


@pytest.mark.parametrize("fit", range(21))
@pytest.mark.parametrize("limit", [None, 10**6, 361])
def test_bisection_finds_the_most_turns(fit: int, limit: int | None) -> None:
    """Each turn has 62 words; 300 of the window are kept for the answer."""
    count, asked = words_counted(limit)
    fit = min(fit, 0 if limit == 361 else fit)
    window = Window(300 + 60 + 62 * fit, 300, count)
    messages = build_messages("ask", history(20), "", window)
    assert len(messages) == 2 * fit + 1
    assert len(asked) <= 6


def test_question_that_only_the_estimate_finds_too_large() -> None:
    count, asked = words_counted(limit=300)
    messages = build_messages("🙂" * 3000, history(9), "", Window(4096, 100, count))
    assert len(messages) == 2 * 3 + 1
    assert max(len(request) for request in asked) <= 19


def test_ancient_turns_are_not_sent_to_the_tokenizer() -> None:
    count, asked = words_counted()
    build_messages("ask", history(5000), "", Window(600, 100, count))
    assert max(len(request) for request in asked) < 200


@pytest.mark.parametrize(
    ("text", "least"),
    [
        ("", 0),
        ("The quick brown fox.", 5),
        ("1234567890", 10),
        ("!?.,", 4),
        ("🙂", 4),
        ("שלום", 8),
        ("\n\n\t", 3),
        ("BASE64QUJDREVGRw", 12),
        ("xqzjvkwbpfghtrmnsdlcxqzjvkwbpf", 20),
    ],
)
def test_estimate_is_on_the_safe_side(text: str, least: int) -> None:
    assert least <= estimate(text) <= len(text.encode())
