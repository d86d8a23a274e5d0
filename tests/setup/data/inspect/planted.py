"""A copy of the sample's conversations, with faults planted in it that are known one by one."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from tests.home import ROOT
from tests.setup.command import prepare, prepared, write

Turns = list[dict[str, Any]]


@cache
def _sample() -> list[Turns]:
    lines = (ROOT / "data/sample/train.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["messages"] for line in lines]


def sample() -> list[Turns]:
    """The conversations of the sample's train split."""
    return [[dict(turn) for turn in row] for row in _sample()]


def different(folder: Path) -> list[Turns]:
    """Those of the sample of which none nearly repeats another one."""
    source = write(folder / "sample.jsonl", *sample())
    prepare(source, folder / "different", near_duplicates="drop")
    return [row["messages"] for row in prepared(folder / "different")]


def _question(change: Callable[[str], str]) -> Callable[[Turns], Turns]:
    """A change of the first question."""

    def changed(row: Turns) -> Turns:
        first, *others = row
        return [{**first, "content": change(first["content"])}, *others]

    return changed


def _one_word(text: str) -> str:
    words = text.split()
    words[len(words) // 2] = "maybe"
    return " ".join(words)


def _slip(text: str) -> str:
    words = text.split()
    longest = max(range(len(words)), key=lambda place: len(words[place]))
    word = words[longest]
    words[longest] = word[0] + word[2:3] + word[1:2] + word[3:]
    return " ".join(words)


def _turned(text: str) -> str:
    words = text.rstrip("?.").split()
    half = len(words) // 2
    return " ".join([*words[half:], *words[:half]]) + "?"


def _answers_too(row: Turns) -> Turns:
    """Another first word of the question, the answers in capitals and without a full stop."""
    first, *others = _question(lambda text: f"Well, {text}")(row)
    spoken = {"assistant": lambda text: text.upper().rstrip(".")}
    return [
        first,
        *({**turn, "content": spoken.get(turn["role"], str)(turn["content"])} for turn in others),
    ]


KINDS: dict[str, Callable[[Turns], Turns]] = {
    "a changed word": _question(_one_word),
    "a typing slip": _question(_slip),
    "another order": _question(_turned),
    "a greeting before": _question(lambda text: f"Good morning, {text}"),
    "thanks after": _question(lambda text: f"{text} Thank you very much!"),
    "capitals, no punctuation": _question(lambda text: text.upper().rstrip("?.!")),
    "the answers changed, too": _answers_too,
}


def plant(rows: list[Turns], each: int) -> list[tuple[str, int, Turns]]:
    """Near-duplicates: of each kind so many, with the number of the row each one repeats."""
    chance = random.Random(5)  # noqa: S311
    long = [n for n, row in enumerate(rows) if len(row[0]["content"].split()) >= 5]
    chosen = chance.sample(long, each * len(KINDS))
    kinds = [kind for kind in KINDS for _ in range(each)]
    return [(kind, n, KINDS[kind](rows[n])) for kind, n in zip(kinds, chosen, strict=True)]
