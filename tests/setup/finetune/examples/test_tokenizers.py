"""A vocabulary is read as llama.cpp reads it, or the model is refused before it is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import gguf
import pytest

from tests import tiny
from tests.families import CHATML, FAMILIES
from tests.home import Home
from tests.setup.finetune.examples.chats import CHATS
from tests.setup.finetune.examples.sentencepiece import adds_sentencepiece
from tests.setup.finetune.machine import Machine, facts, write_rows

SHORT = ["finetune.epochs=1", "finetune.held_out_rows=1", "finetune.layers=1"]


def _machine(folder: Path, base: Path, rows: list[Any]) -> Machine:
    from setup.common.files import sha256_file
    from setup.data import DataPlan
    from setup.data.manifest import write_note
    from tests.setup.finetune.conftest import SMALL

    train = write_rows(folder / "data/train_data.jsonl", rows)
    plan = DataPlan(source="own.jsonl", out=train.parent)
    write_note(plan, {"sha256": {train.name: sha256_file(train)}})
    sets = [f"model.source={base}", "data.source=own.jsonl", f"data.out={train.parent}"]
    return Machine(Home(folder / "home", folder / "models"), [*sets, *SMALL, *SHORT])


@pytest.mark.parametrize("space", [False, True])
@pytest.mark.parametrize(
    ("family", "chat"),
    [
        ("gemma2", "gemma2"),
        ("gemma3", "gemma3"),
        ("phi3", "phi3"),
        ("llama", "mistral-v0.1"),
        ("llama", "mistral-v0.3"),
        ("llama", "mistral-v7"),
    ],
)
def test_sentencepiece_file_is_trained_on_the_tokens_that_are_served(
    tmp_path: Path, family: str, chat: str, space: bool
) -> None:
    assert FAMILIES[family].from_file
    with mock.patch.object(tiny, "_add_tokenizer", adds_sentencepiece(space)):
        base = tiny.make_tiny(family, tmp_path, CHATS[chat])
    rows = [[{"role": "system", "content": "You sell."}, *row] for row in facts(6)]
    done = _machine(tmp_path, base, rows).setup("finetune")
    assert done.returncode == 0, done.stderr
    folded = "has no place for a system message: that of 6 conversations" in done.stderr
    assert folded == (chat in ("gemma2", "mistral-v0.1", "mistral-v0.3"))
    assert "not held against" not in done.stderr


def test_vocabulary_that_transformers_splits_otherwise_is_refused(tmp_path: Path) -> None:
    def add_pre(writer: gguf.GGUFWriter, _: str) -> None:
        writer.add_string(gguf.Keys.Tokenizer.PRE, "starcoder")  # each digit alone

    with mock.patch.object(gguf.GGUFWriter, "add_tokenizer_pre", add_pre):
        base = tiny.make_tiny("qwen2", tmp_path, CHATML)
    done = _machine(tmp_path, base, facts(6)).setup("finetune")
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert f"{base} cannot be trained as it is served: llama.cpp makes other tokens" in line
    assert "Fix: --set finetune.base=FOLDER" in line
