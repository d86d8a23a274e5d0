"""The endpoint folds what a chat template has no place for, whoever asks and by whichever route."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.home import Home
from tests.setup.finetune.examples.chats import CHATS
from tests.tiny import make_tiny

SYSTEM = {"role": "system", "content": "You sell lamps."}
QUESTION = {"role": "user", "content": "What does it cost?"}
FOLDED = {"role": "user", "content": "You sell lamps.\n\nWhat does it cost?"}
LATER = [{"role": "assistant", "content": "7 euros"}, {"role": "user", "content": "Sure?"}]


@pytest.fixture(scope="module", params=["gemma2", "mistral-v0.1", "mistral-v0.3"])
def home(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Home]:
    """A machine that serves a tiny model whose template has no system role."""
    folder: Path = tmp_path_factory.mktemp("folding")
    base = make_tiny("llama", folder, CHATS[request.param])
    sets = [f"model.source={base}", "model.precision=keep", "endpoint.version=none"]
    made = Home(folder / "home", folder, sets=[*sets, "model.context_window=256"])
    done = made.setup("deploy")
    assert done.returncode == 0, done.stderr
    yield made
    made.setup("stop")


def _tokens(home: Home, *turns: dict[str, str]) -> list[int]:
    return list(home.call("/tokenize", {"messages": list(turns)}).json()["tokens"])


def test_system_message_is_folded_as_the_flow_does_it(home: Home) -> None:
    assert _tokens(home, SYSTEM, QUESTION) == _tokens(home, FOLDED)
    assert _tokens(home, SYSTEM, QUESTION, *LATER) == _tokens(home, FOLDED, *LATER)


def test_both_contracts_answer_the_folded_prompt(home: Home) -> None:
    options = {"temperature": 0, "max_tokens": 8}
    asked = [
        home.call("/v1/chat/completions", {"messages": turns, **options}).json()
        for turns in ([SYSTEM, QUESTION], [FOLDED])
    ]
    sizes = {reply["usage"]["prompt_tokens"] for reply in asked}
    scored = [
        home.call("/score", {"input_data": {"input_string": turns, "parameters": options}}).json()
        for turns in ([SYSTEM, QUESTION], [FOLDED])
    ]
    assert len(sizes | {reply["usage"]["prompt_tokens"] for reply in scored}) == 1
    assert scored[0]["output"] == scored[1]["output"]


def test_two_questions_in_succession_are_answered(home: Home) -> None:
    """Joined by a template that wants roles to alternate, in their places by one that does not."""
    hello = {"role": "user", "content": "Hello"}
    joined = {"role": "user", "content": "Hello\n\nWhat does it cost?"}
    apart = home.call("/tokenize", {"messages": [hello, QUESTION]})
    assert apart.status_code == 200, apart.text
    alone = [_tokens(home, joined), _tokens(home, hello, LATER[0], QUESTION)]
    assert apart.json()["tokens"] == alone[0] or len(apart.json()["tokens"]) < len(alone[1])
