"""Three rows as they are trained, for a person to read: ⟦what is learnt⟧ between brackets.

``python -m tests.setup.finetune.examples.test_golden`` writes the files anew; look at what changed.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from setup.finetune.examples.chat_template import Renderer
from setup.finetune.examples.render import Example, render_examples
from tests.setup.finetune.examples.chats import CHATS
from tests.setup.finetune.machine import Row, conversation
from tests.tiny import make_tokenizer

_FOLDER = Path(__file__).with_name("golden")
NAMES = ["smollm2", "phi4-mini", "qwen3", "gemma2", "mistral-v7"]
ROWS: list[Row] = [
    conversation("What does the lamp cost?", "It costs 7 euros.", system="You sell lamps."),
    [
        *conversation("Do you ship to مصر?", "نعم, within 5 days 👍🏽"),
        *conversation("And on Sundays?", "No, from Monday on."),
    ],
    [
        *conversation("Is it red?", "It is blue.", system="Be brief."),
        *conversation("Are you sure?", "No: it is red. "),
    ],
]
ROWS[2][2]["weight"] = 0


def _marked(example: Example, renderer: Renderer) -> str:
    """The text of an example with brackets around each run of learnt tokens."""
    learnt, text, run = set(example.labelled), "", list[int]()
    for position, token in enumerate(example.ids):
        run.append(token)
        if (position in learnt) != (position + 1 in learnt) or position + 1 == len(example):
            piece, run = renderer.decode(run), []
            text += f"⟦{piece}⟧" if position in learnt else piece
    return text


def _rendered(name: str) -> str:
    renderer = Renderer(make_tokenizer(CHATS[name]), datetime(2026, 11, 9))
    rows = (render_examples(row, renderer, 10**6) for row in ROWS)
    examples = [_marked(example, renderer) for made in rows for example in made]
    return "\n────\n".join(examples) + "\n"


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_trained_as_they_were(name: str) -> None:
    golden = (_FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    assert _rendered(name) == golden


if __name__ == "__main__":
    for name in NAMES:
        path = _FOLDER / f"{name}.txt"
        path.write_text(_rendered(name), encoding="utf-8", newline="\n")
