"""The endpoint's engine gives a model the very text and tokens that it was trained on."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime
from pathlib import Path

import pytest

from setup.finetune.examples.chat_template import Renderer
from setup.finetune.examples.refusals import NotTrainableError
from setup.finetune.examples.render import render_examples
from setup.serve.engine import Engine
from setup.serve.settings import DeploymentSettings
from setup.weights.base import load_base
from tests.setup.finetune.examples.chats import CHATS
from tests.setup.finetune.examples.test_properties import conversation_of
from tests.setup.finetune.machine import Row, conversation
from tests.tiny import make_tiny

ROWS: list[Row] = [
    conversation("What does the lamp cost?", "7 euros", system="You sell lamps."),
    [*conversation("Hi", "Good day.", system=" Be brief.\n"), *conversation("So?", "Yes.")],
    [*conversation("Hi", "Good day."), *conversation("Und مرحبا 👍🏽?", "Ja.")],
]


@pytest.mark.parametrize("name", CHATS)
def test_served_prompt_is_the_trained_one(tmp_path: Path, name: str) -> None:
    import torch

    base = make_tiny("llama", tmp_path, CHATS[name])
    _, tokenizer = load_base(str(base), torch.float32)
    renderer, chance = Renderer(tokenizer, datetime.now()), random.Random(1)  # noqa: S311
    rows = ROWS + [conversation_of(chance, ()) for _ in range(6)]
    asyncio.run(_compare(base, tmp_path, rows, renderer))


async def _compare(base: Path, folder: Path, rows: list[Row], renderer: Renderer) -> None:
    settings = DeploymentSettings(model_path=str(base), context_window=512, slots=1)
    engine = await Engine.start("tiny", settings, folder)
    compared = 0
    try:
        for row in rows:
            try:
                examples = render_examples(row, renderer, 10**6)
            except NotTrainableError:  # all of weight 0
                continue
            turns = [{"role": turn["role"], "content": turn["content"]} for turn in row]
            answers = (n for n, turn in enumerate(row) if turn["role"] == "assistant")
            last = max(n for n in answers if row[n].get("weight", 1))
            served = await engine.prompt(turns[:last])
            trained = renderer.text(row[:last], prompt=True)
            assert trained.endswith(served)
            body = {"content": served, "add_special": True, "parse_special": True}
            tokens = (await engine.post("/tokenize", body))["tokens"]
            assert examples[-1].ids[: len(tokens)] == tokens
            assert len(tokens) in examples[-1].labelled
            await _see_stop(engine, turns[:last], examples[-1].ids[examples[-1].labelled[-1]])
            compared += 1
    finally:
        await engine.stop()
    assert compared >= 3


async def _see_stop(engine: Engine, turns: Row, stop: int) -> None:
    """A model that says the token it learnt to stop with stops."""
    body = {"messages": turns, "max_tokens": 4, "logit_bias": {str(stop): 100}}
    choice = (await engine.complete(body))["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"].strip()) == ("stop", "")
