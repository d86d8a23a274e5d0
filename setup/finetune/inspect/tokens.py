"""The train split as the trainer will see it: tokens, trained tokens, turns that are dropped."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from setup.common.console import counting
from setup.data.personal import hide
from setup.finetune.examples import render
from setup.finetune.examples.chat_template import Rendered, Renderer
from setup.finetune.examples.dataset import fold_system, read_rows
from setup.finetune.examples.refusals import NotTrainableError, TooLongError
from setup.finetune.examples.tools import Message, tools_of
from setup.finetune.inspect.pieces import Piece, cut_pieces
from setup.recipe.local import Training
from setup.weights.base import Base
from setup.weights.fetch import model_sha256, prepare_model
from setup.weights.tokenizer import load_tokenizer

_BINS = 12
_STEPS = (1, 2, 5)
_FEW = 40  # characters of the first row that is left out


class Bin(NamedTuple):
    """Values from ``low`` up to, but not including ``high`` (None: whatever is more)."""

    low: int
    high: int | None
    rows: int


@dataclass
class Tokens:
    """Counts over the train split; ``left_out`` are reasons, ``first`` the first row of each."""

    model: str
    max_tokens: int
    conversations: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    trained: int = 0
    shortened: int = 0
    dropped_turns: int = 0
    without_system: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    prints_date: bool = False

    @property
    def total(self) -> int:
        """All tokens of the rows that are trained on."""
        return sum(self.conversations)

    @property
    def share(self) -> float:
        """The share of tokens that are trained."""
        return self.trained / self.total if self.total else 0.0

    def as_dict(self) -> dict[str, Any]:
        """The counts as JSON has them."""
        return {
            "model": self.model,
            "max_tokens": self.max_tokens,
            "rows": len(self.conversations),
            "total": self.total,
            "trained": self.trained,
            "trained_share": round(self.share, 4),
            "conversation": _figures(self.conversations),
            "answer": _figures(self.answers),
            "shortened_rows": self.shortened,
            "dropped_turns": self.dropped_turns,
            "without_system_message": self.without_system,
            "left_out": [
                {"reason": why, "rows": rows, "first": self.first[why]}
                for why, rows in self.left_out.most_common()
            ],
        }


def _figures(values: Sequence[int]) -> dict[str, Any]:
    if not values:
        return {}
    ranked = sorted(values)
    quantiles = {
        f"p{percent}": ranked[min(len(ranked) - 1, len(ranked) * percent // 100)]
        for percent in (50, 90, 99)
    }
    bins = [bin_._asdict() for bin_ in histogram(values)]
    mean = round(sum(values) / len(values), 1)
    return {"least": ranked[0], "mean": mean, **quantiles, "most": ranked[-1], "histogram": bins}


def histogram(values: Sequence[int]) -> list[Bin]:
    """At most twelve bins of a round width; the rare largest values share the last one."""
    if not values:
        return []
    ranked = sorted(values)
    low, high = ranked[0], ranked[len(ranked) * 99 // 100]
    width = _round_width((high - low + 1) / _BINS)
    start = low // width * width
    counts = Counter(min((value - start) // width, _BINS - 1) for value in values)
    last = max(counts)
    open_ended = ranked[-1] >= start + (last + 1) * width
    return [
        Bin(
            start + place * width,
            None if open_ended and place == last else start + (place + 1) * width,
            counts[place],
        )
        for place in range(last + 1)
    ]


def _round_width(least: float) -> int:
    tens: int = 10 ** math.floor(math.log10(max(least, 1)))
    return next(step * tens for step in (*_STEPS, 10) if step * tens >= least)


@dataclass(frozen=True)
class Rendering:
    """A row as it is trained: its text in pieces, or why it is not."""

    row: str
    pieces: list[Piece]
    tokens: int = 0
    trained: int = 0
    dropped_turns: int = 0
    problem: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The rendering as JSON has it."""
        return {**vars(self), "pieces": [piece._asdict() for piece in self.pieces]}


class Lens:
    """The tokenizer and the template by which ``recipe`` is trained."""

    def __init__(self, recipe: Training) -> None:
        path = prepare_model(recipe.model)
        base = Base(path, model_sha256(path), recipe.finetune.base, recipe.model.source)
        self._renderer = Renderer(load_tokenizer(base))
        self._folds = recipe.model.system_role == "fold"
        self.model = base.source or recipe.model.file or recipe.model.source
        self.max_tokens = recipe.finetune.max_tokens

    def count(self, train: Path, total: int) -> Tokens:
        """Render every row of the train split, and count."""
        made = Tokens(self.model, self.max_tokens)
        with counting("Counting tokens", total) as tell:
            for number, messages in enumerate(read_rows(train), 1):
                self._add(made, messages)
                tell(number)
        made.prints_date = self._renderer.prints_date
        return made

    def _add(self, made: Tokens, messages: list[Message]) -> None:
        try:
            examples = [example for example, _ in self._examples(messages)]
        except NotTrainableError as error:
            why = str(error)
            if isinstance(error, TooLongError):
                why = f"its last exchange is longer than {self.max_tokens} tokens"
            made.left_out[why] += 1
            begins = " ".join(hide(messages[0]["content"]).split())[:_FEW]
            made.first.setdefault(why, begins)
            return
        made.shortened += any(example.shortened for example in examples)
        made.without_system += any(example.without_system for example in examples)
        for example in examples:
            made.conversations.append(len(example))
            made.answers.extend(_runs(example.labelled))
            made.trained += len(example.labelled)
            made.dropped_turns += example.dropped

    def _examples(self, messages: list[Message]) -> list[tuple[render.Example, Rendered]]:
        folded = fold_system([messages])[0] if self._folds else messages
        offering = self._renderer.offering(tools_of(messages))
        return render.render_visibly(folded, offering, self.max_tokens)

    def show(self, row: str, messages: list[Message]) -> Rendering:
        """A row as it will be trained, what looks like personal data hidden but for its ends."""
        try:
            examples = self._examples(messages)
        except NotTrainableError as error:
            return Rendering(row, [], problem=str(error))
        special = self._renderer.special
        pieces = [
            piece
            for example, rendered in examples
            for piece in cut_pieces(rendered, example.labelled, special)
        ]
        return Rendering(
            row,
            pieces,
            sum(len(example) for example, _ in examples),
            sum(len(example.labelled) for example, _ in examples),
            sum(example.dropped for example, _ in examples),
        )


def _runs(labelled: list[int]) -> list[int]:
    """The lengths of the runs of consecutive positions: the answers with their stop tokens."""
    ends = [place for place, (a, b) in enumerate(pairwise(labelled), 1) if b != a + 1]
    return [end - start for start, end in pairwise([0, *ends, len(labelled)])] if labelled else []
