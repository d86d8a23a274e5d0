"""What is learnt is the answers with their stop token and nothing else, whatever the text."""

from __future__ import annotations

import random
from itertools import groupby
from typing import Any

import pytest

from setup.finetune.examples.chat_template import Renderer
from setup.finetune.examples.refusals import NotTrainableError
from setup.finetune.examples.render import Example, render_examples
from tests.setup.finetune.examples.chats import CHATS
from tests.setup.finetune.machine import Row
from tests.tiny import make_tokenizer

_PIECES = [
    *(
        "The red lamp",
        "user",
        "assistant\n",
        "model",
        " ",
        "\n\n",
        ".",
        "7 euros",
        "<b>",
        "{{ x }}",
    ),
    *("नमस्ते दुनिया", "你好灯多少钱", "مرحبا بكم", "שלום עולם", "Übergröße", "Ελλάδα", "สวัสดี"),
    *("👩‍👩‍👧", "👍🏽", "🎉", "e\u0301", "\u00a0", "\u2028", "\u200f", "\ufeff", "\t", "<think"),
]
# So often that runs of them become tokens, which may reach over the beginning of an answer.
_WHITE = ["\n \n\n  \t\n \n  x \n\n\n y"] * 3000
_ENDS = ["", "", "", " ", "\n", "\n\n", "  \t", " \n "]


def _say(chance: random.Random, markers: tuple[str, ...]) -> str:
    """Text with white space at its ends, and now and then a marker of the template."""
    pieces = chance.choices(_PIECES, k=chance.randint(1, 5))
    if markers and chance.random() < 0.06:
        pieces.insert(chance.randrange(len(pieces)), chance.choice(markers))
    return chance.choice(_ENDS) + "".join(pieces) + "x" + chance.choice(_ENDS)


def conversation_of(chance: random.Random, markers: tuple[str, ...]) -> Row:
    """A conversation of one to four exchanges, every other one with a system message."""
    row: Row = []
    if chance.random() < 0.5:
        row.append({"role": "system", "content": _say(chance, markers)})
    for _ in range(chance.randint(1, 4)):
        row.append({"role": "user", "content": _say(chance, markers)})
        row.append({"role": "assistant", "content": _say(chance, markers)})
        if chance.random() < 0.15:
            row[-1]["weight"] = 0
    return row


@pytest.fixture(scope="module", params=CHATS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return make_tokenizer(CHATS[request.param], *_WHITE)


def _runs(example: Example) -> list[list[int]]:
    """The positions of each learnt answer."""
    numbered = enumerate(example.labelled)
    groups = groupby(numbered, key=lambda pair: pair[1] - pair[0])
    return [[position for _, position in group] for _, group in groups]


def test_learnt_tokens_are_the_answers_and_their_stop_tokens(tokenizer: Any) -> None:
    renderer, chance = Renderer(tokenizer), random.Random(0)  # noqa: S311
    markers = tuple(tokenizer.all_special_tokens)
    accepted = 0
    for _ in range(120):
        row = conversation_of(chance, markers)
        learnt = [turn for turn in row if turn["role"] == "assistant" and turn.get("weight", 1)]
        spoilt = any(marker in turn["content"] for turn in row for marker in markers)
        try:
            examples = render_examples(row, renderer, 10**6)
        except NotTrainableError:
            assert spoilt or not learnt, row
            continue
        accepted += 1
        answers = []
        for example in examples:
            for run in _runs(example):
                *written, stop = run
                assert example.ids[stop] in tokenizer.all_special_ids
                answers.append(tokenizer.decode([example.ids[n] for n in written]))
            _check_begin(example, tokenizer)
        assert [answer.strip() for answer in answers] == [t["content"].strip() for t in learnt]
        _check_prompts(row, examples, renderer)
    assert accepted > 60


def _check_begin(example: Example, tokenizer: Any) -> None:
    begin = tokenizer.bos_token_id
    assert example.ids[:2] != [begin, begin]
    if tokenizer("a").input_ids[0] == begin:
        assert example.ids[0] == begin
        assert example.ids.count(begin) == 1


def _check_prompts(row: Row, examples: list[Example], renderer: Renderer) -> None:
    """Before each learnt answer stand the very tokens that the served model would be given."""
    answers = [n for n, turn in enumerate(row) if turn["role"] == "assistant"]
    learnt = iter(n for n in answers if row[n].get("weight", 1))
    for example in examples:
        for run in _runs(example):
            prompt = renderer.text(row[: next(learnt)], prompt=True)
            assert example.ids[: run[0]] == renderer.encode(prompt).ids
