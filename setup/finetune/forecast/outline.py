"""A run before anything is loaded: its work guessed from the length of its texts."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch

from setup.common.paths import REPOSITORY
from setup.finetune.compute.precision import choose_dtype
from setup.finetune.compute.schedule import Plan, plan_run
from setup.finetune.examples.dataset import Split, read_split
from setup.finetune.examples.render import Example
from setup.finetune.examples.tools import Message
from setup.finetune.forecast.forecast import lack_of_memory, size
from setup.finetune.forecast.memory import Machine, peak_bytes
from setup.finetune.forecast.shape import Shape
from setup.finetune.forecast.work import Parts, Work, measure_work
from setup.recipe.local import Finetune

GUESSED = "tokens guessed from the length of the texts"
_LETTERS, _AROUND_TURN = 4.5, 8  # letters of a token in plain English; tokens of a template
_LOOKED_AT = 5000  # rows
_GENERAL = REPOSITORY / "data" / "general" / "text.jsonl"
# What is tried, in this order, where memory lacks.
_LESS: tuple[dict[str, Any], ...] = (
    {"checkpointing": True},
    {"checkpointing": True, "batch_rows": 1},
    {"checkpointing": True, "batch_rows": 1, "max_tokens": 512},
)


@dataclass(frozen=True)
class Outline:
    """The rows of a run, its model's shape and the machine; everything else follows."""

    split: Split
    settings: Finetune
    shape: Shape
    machine: Machine

    @classmethod
    def of(cls, train: Path, settings: Finetune, shape: Shape) -> Outline:
        """The outline of a run on this machine over the split in ``train``."""
        machine = Machine(choose_dtype(settings.precision).itemsize, torch.cuda.is_available())
        return cls(read_split(train, settings), settings, shape, machine)

    @property
    def dtype(self) -> torch.dtype:
        """The kind of number that frozen weights are."""
        return torch.bfloat16 if self.machine.number_bytes == 2 else torch.float32

    @cached_property
    def plan(self) -> Plan:
        """The batches as they would be made of the guessed tokens."""
        lengths = [len(example) for example in self._parts.train]
        world = int(os.environ.get("WORLD_SIZE", "1"))
        return plan_run(self.settings, lengths, len(self.split.held_out), world)

    @property
    def _times(self) -> int:
        """One in so many rows is looked at, where there are very many."""
        return math.ceil(len(self.split.train) / _LOOKED_AT)

    @cached_property
    def _parts(self) -> Parts:
        train, held_out = (
            [guess_example(row, self.settings.max_tokens) for row in rows]
            for rows in (self.split.train[:: self._times], self.split.held_out)
        )
        return Parts(train, held_out, _general_text(self.settings.max_tokens))

    @cached_property
    def work(self) -> Work:
        """Add up the work."""
        number_bytes = self.machine.number_bytes
        return measure_work(self._parts, self.plan, self.shape, number_bytes, times=self._times)

    def memory(self) -> int:
        """The most bytes that one process holds."""
        return peak_bytes(self.shape, self.plan.settings, self.work, self.machine)

    def advice(self, free: int) -> str:
        """Say that memory lacks and the settings that fit; empty where these do."""
        lack = lack_of_memory(self.memory(), free)
        if not lack:
            return ""
        for change in _LESS:
            smaller = replace(self, settings=self.settings.model_copy(update=change))
            if (memory := smaller.memory()) <= free:
                return f"{lack}; {size(memory)} with {_as_options(self.settings, change)}"
        return f"{lack}; close other programs, or take a smaller model or a larger machine"


def _as_options(settings: Finetune, change: dict[str, Any]) -> str:
    return " ".join(
        f"--set finetune.{name}={str(value).lower()}"
        for name, value in change.items()
        if getattr(settings, name) != value
    )


def guess_example(messages: Sequence[Message], max_tokens: int) -> Example:
    """A conversation as if tokens were pieces of one length: equal texts make equal tokens."""
    pieces = [_pieces(turn) for turn in messages]
    ends = list(accumulate(map(len, pieces)))
    labelled = [
        place
        for turn, part, end in zip(messages, pieces, ends, strict=True)
        if turn["role"] == "assistant"
        for place in range(end - len(part) + _AROUND_TURN - 1, end)
    ]
    ids = [piece for part in pieces for piece in part]
    over = max(0, len(ids) - max_tokens)
    return Example(ids[over:], [place - over for place in labelled if place > over])


def _pieces(turn: Message) -> list[int]:
    text = str(turn.get("content") or "")
    cuts = [round(number * _LETTERS) for number in range(round(len(text) / _LETTERS) + 2)]
    parts = [text[start:end] for start, end in pairwise(cuts)]
    return [hash(turn["role"])] * _AROUND_TURN + [hash(part) for part in parts if part]


def _general_text(max_tokens: int) -> list[Example]:
    texts = _GENERAL.read_text(encoding="utf-8").splitlines()
    lengths = [min(max_tokens, round(len(text) / _LETTERS)) for text in texts]
    return [Example([0] * length, list(range(1, length))) for length in lengths]
