"""Contract ``auto``: what an endpoint turns out to take is found out once and remembered."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from promptflow.exceptions import UserErrorException

from flows.chat.scoring_client import Endpoint, Generation, Settings
from tests.flows.chat.conftest import Ask, Connect
from tests.flows.chat.test_failures import fails
from tests.flows.chat.test_manners import GOOD, follow
from tests.scripted.server import Handler, Server
from tests.scripted.steps import reply

QUESTION = [{"role": "user", "content": "Hello?"}]


class Catalog:
    """A catalog fine-tune: it takes one name of the longest answer, and answers in any shape."""

    def __init__(
        self, server: Server, refuses: int, said: Any, answer: Any, name: str = "max_tokens"
    ) -> None:
        self.refused = 0
        self.server, self.refuses, self.said, self.answer = server, refuses, said, answer
        self.name = name
        server.play(self.step)

    def step(self, handler: Handler) -> None:
        body = handler.received.body
        given = body["input_data"]["parameters"] if isinstance(body["input_data"], dict) else {}
        if {"max_tokens", "max_new_tokens"} & set(given) == {self.name}:
            reply(self.answer)(handler)
        else:
            self.refused += 1
            reply(self.said, self.refuses)(handler)


UNUSED = "The following `model_kwargs` are not used by the model: ['max_new_tokens'] (note: typos)"
CATALOG: dict[str, tuple[int, Any, Any]] = {
    "transformers, 424": (424, {"error": {"message": UNUSED}}, [{"0": "Hi."}]),
    "transformers, 400": (400, {"error_code": "BAD_REQUEST", "message": UNUSED}, ["Hi."]),
    "text, 500": (500, f"ValueError: {UNUSED}", [{"0": "Hi."}]),
    "keyword": (
        424,
        "generate() got an unexpected keyword argument 'max_new_tokens'",
        [{"generated_text": "Hi."}],
    ),
    "both named": (
        422,
        {"detail": "max_new_tokens is not supported, use max_tokens"},
        {"predictions": ["Hi."]},
    ),
    "contract C": (400, {"detail": "unsupported: max_new_tokens"}, GOOD),
    "still contract A": (400, {"detail": "unknown parameter max_new_tokens"}, {"output": "Hi."}),
    "inside a 200": (200, {"output": None, "error": {"message": UNUSED}}, {"output": "Hi."}),
}


@pytest.mark.parametrize("case", CATALOG)
def test_a_catalog_fine_tune_is_met_once(
    server: Server, connect: Connect, ask: Ask, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    connect("auto", endpoint=f"{server.url}/{case.replace(' ', '-')}/score")
    catalog = Catalog(server, *CATALOG[case])
    assert [ask(f"Number {number}?") for number in range(5)] == ["Hi."] * 5
    assert catalog.refused == 1
    assert len(server.received) == 6
    told = [line.message for line in caplog.records if line.name == "flows.chat.scoring_client"]
    [refusal] = [line for line in told if "max_tokens is sent instead" in line]
    follow(refusal)
    assert len([line for line in told if "answers as contract" in line]) == (case not in _A_STAYS)
    before = len(server.received)
    assert ask() == "Hi."
    assert len(server.received) == before + 1


_A_STAYS = ("still contract A", "inside a 200")


@pytest.mark.parametrize("answer", [[{"0": "Hi."}], ["Hi."], {"predictions": ["Hi."]}, GOOD])
def test_a_fine_tune_without_vllm_refuses_nothing(
    server: Server, connect: Connect, ask: Ask, answer: Any
) -> None:
    """It says nothing of why it raises, so that the one name it does not take is not sent."""
    said = "An unexpected error occurred in scoring script. Check the logs for more info."
    connect("auto", endpoint=f"{server.url}/pipeline/score")
    catalog = Catalog(server, 424, said, answer, "max_new_tokens")
    assert [ask() for _ in range(3)] == ["Hi."] * 3
    assert (catalog.refused, len(server.received)) == (0, 3)


def test_the_setting_says_it_outright(server: Server, connect: Connect, ask: Ask) -> None:
    connect("auto", answer_limit="max_tokens", deployment="outright")
    catalog = Catalog(server, 424, {"error": UNUSED}, [{"0": "Hi."}])
    assert ask() == "Hi."
    assert catalog.refused == 0


@pytest.mark.parametrize("reads", ["max_tokens", "neither"])
def test_an_answer_that_is_cut_short_is_asked_for_by_the_other_name(
    server: Server, reads: str
) -> None:
    def step(handler: Handler) -> None:
        given = handler.received.body["input_data"]["parameters"]
        count = given.get(reads, 16)
        usage = {"completion_tokens": count}
        reply({"output": "x" * count, "finish_reason": "length", "usage": usage})(handler)

    server.play(step)
    values = {"endpoint": f"{server.url}/cut-{reads}/score", "key": "s3cret"}
    endpoint = Endpoint(Settings.from_values(values))
    lengths = [
        len(endpoint.complete(QUESTION, Generation(max_new_tokens=64)).text) for _ in range(3)
    ]
    assert lengths == [64 if reads == "max_tokens" else 16] * 3
    assert len(server.received) == 4
    named = {"max_tokens": "max_tokens", "neither": "max_new_tokens"}[reads]
    assert endpoint.learnt() | {"endpoint": ""} == {
        "contract": "score",
        "answer_limit": named,
        "endpoint": "",
    }


def test_threads_meet_it_at_most_once_each(server: Server) -> None:
    catalog = Catalog(server, 424, {"error": UNUSED}, [{"0": "Hi."}])
    values = {"endpoint": f"{server.url}/threads/score", "key": "s3cret"}
    endpoint = Endpoint(Settings.from_values(values))
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: endpoint.complete(QUESTION).text, range(200)))
    assert answers == ["Hi."] * 200
    assert 1 <= catalog.refused <= 8
    assert len(server.received) == 200 + catalog.refused


def test_a_deployment_of_the_same_endpoint_is_met_on_its_own(server: Server) -> None:
    catalog = Catalog(server, 424, {"error": UNUSED}, [{"0": "Hi."}])
    for deployment in ("blue", "green"):
        values = {"endpoint": f"{server.url}/two/score", "key": "s3cret", "deployment": deployment}
        for _ in range(2):
            assert Endpoint(Settings.from_values(values)).complete(QUESTION).text == "Hi."
    assert catalog.refused == 2


def test_threads_that_meet_an_mlflow_deployment_at_once_are_all_answered(server: Server) -> None:
    together = threading.Barrier(8)  # nobody is answered before all have asked the first way

    def step(handler: Handler) -> None:
        if isinstance(handler.received.body["input_data"], dict):
            together.wait(timeout=30)
            reply({"message": "Failed to enforce schema of data"}, 400)(handler)
        else:
            reply(["Hi."])(handler)

    server.play(step)
    values = {"endpoint": f"{server.url}/at-once/score", "key": "s3cret"}
    endpoint = Endpoint(Settings.from_values(values))
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: endpoint.complete(QUESTION).text, range(40)))
    assert answers == ["Hi."] * 40
    assert len(server.received) == 8 + 40


def test_an_mlflow_deployment_is_met_once(
    server: Server, connect: Connect, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    def step(handler: Handler) -> None:
        body = handler.received.body
        if isinstance(body["input_data"], dict):
            said = "Failed to enforce schema of data"
            reply({"error_code": "BAD_REQUEST", "message": said}, 400)(handler)
        else:
            reply([f"{body['input_data'][0]}Hi."])(handler)

    connect("auto", endpoint=f"{server.url}/mlflow/score")
    server.play(step)
    assert [ask() for _ in range(3)] == ["Hi."] * 3
    assert len(server.received) == 4
    [told] = [line.message for line in caplog.records if line.name == "flows.chat.scoring_client"]
    follow(told)
    assert ask() == "Hi."
    assert len(server.received) == 5


@pytest.mark.parametrize(
    ("status", "more", "asked"),
    [
        (400, {}, [3, 1]),  # once for each other contract, then never again
        (400, {"contract": "score"}, [1, 1]),
        (400, {"system_role": "native"}, [3, 1]),
        (424, {}, [3, 1]),  # what Azure answers for every exception of a scoring script
        (500, {}, [1, 1]),  # the model may have worked on it
        (401, {}, [1, 1]),
        (404, {}, [2, 1]),  # the path of contract C alone is another
    ],
)
def test_what_is_refused_for_another_reason_is_not_asked_on_and_on(
    *,
    server: Server,
    connect: Connect,
    ask: Ask,
    status: int,
    more: dict[str, str],
    asked: list[int],
) -> None:
    path, more = "-".join([str(status), *more]), dict(more)
    connect(more.pop("contract", "auto"), endpoint=f"{server.url}/{path}/score", **more)
    server.play(reply({"error": {"message": "no luck today"}}, status))
    for count in asked:
        before = len(server.received)
        with pytest.raises(UserErrorException, match=f"{status}: .*no luck today"):
            ask()
        assert len(server.received) == before + count


def test_a_refusal_after_an_answer_is_about_the_question(
    server: Server, connect: Connect, ask: Ask
) -> None:
    connect("auto", endpoint=f"{server.url}/settled/score")
    server.play(reply({"output": "Hi."}), reply({"error": "no luck today"}, 400))
    assert ask() == "Hi."
    with pytest.raises(UserErrorException, match="no luck today"):
        ask()
    assert len(server.received) == 2


def test_contract_score_takes_no_list(server: Server, connect: Connect, ask: Ask) -> None:
    connect("score")
    server.play(reply([{"0": "Hi."}]))
    fails(ask, "BadPayloadError", "set the connection's 'contract' to auto", 5)


@pytest.mark.parametrize(
    "value", [["Hi.", "Ho."], [], [{"0": "Hi.", "1": "Ho."}], [7], [["Hi."]], "Hi."]
)
def test_no_list_with_one_text(server: Server, connect: Connect, ask: Ask, value: Any) -> None:
    connect("auto")
    server.play(reply(value))
    fails(ask, "BadPayloadError", "Fix: check the connection's 'contract', now auto", 5)


def test_a_scoring_script_that_tells_nothing(server: Server, connect: Connect, ask: Ask) -> None:
    connect("score", answer_limit="both")
    for step in (reply({}), reply("An unexpected error occurred in scoring script.", 424)):
        server.play(step)
        with pytest.raises(UserErrorException) as caught:
            ask()
        assert "where that names max_tokens" in str(caught.value)
        assert "--set configs.answer_limit=max_new_tokens" in str(caught.value)
        assert len(server.received) == 1


@pytest.mark.parametrize("status", [400, 404, 424])
def test_a_server_of_contract_c_alone_is_met_once(
    server: Server, connect: Connect, ask: Ask, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    def step(handler: Handler) -> None:
        chat = handler.path.endswith("/v1/chat/completions")
        (reply(GOOD) if chat else reply({"detail": "Not Found"}, status))(handler)

    connect("auto", endpoint=f"{server.url}/only-c-{status}/score")
    server.play(step)
    assert [ask() for _ in range(3)] == ["Hi."] * 3
    assert len(server.received) == {400: 5, 404: 4, 424: 5}[status]
    [told] = [line.message for line in caplog.records if line.name == "flows.chat.scoring_client"]
    follow(told)
    before = len(server.received)
    assert ask() == "Hi."
    assert len(server.received) == before + 1
