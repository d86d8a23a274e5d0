"""The prepared data of a recipe, as `inspect` looks at it."""

from __future__ import annotations

import random
from itertools import islice
from typing import Any

from setup.common import console
from setup.common.errors import FixableError
from setup.data import PreparedSplit, prepared_split
from setup.data.plan import data_plan
from setup.finetune.examples.dataset import read_rows
from setup.finetune.inspect.survey import Survey, survey
from setup.finetune.inspect.tokens import Lens, Rendering, Tokens
from setup.recipe.local import Training


class Look:
    """Both prepared files of a recipe, and the tokenizer once it is asked for.

    Raises:
        FixableError: They were not prepared, or of other data than the recipe names.
    """

    def __init__(self, recipe: Training) -> None:
        self._recipe, self._plan = recipe, data_plan(recipe)
        again = recipe.command("data")
        self._train: PreparedSplit = prepared_split(self._plan, "train", again)
        self._test: PreparedSplit = prepared_split(self._plan, "test", again)
        self._lens: Lens | None = None
        self._remark()

    def _remark(self) -> None:
        for remark in dict.fromkeys((*self._train.remarks, *self._test.remarks)):
            console.err.print(f"note: {remark}", markup=False)

    @property
    def lens(self) -> Lens:
        """The tokenizer and template, loaded by the first who asks."""
        self._lens = self._lens or Lens(self._recipe)
        return self._lens

    def survey(self) -> Survey:
        """Say what is in the files."""
        return survey(self._plan, self._train.file, self._test.file)

    def tokens(self, made: Survey) -> Tokens:
        """Count the tokens of the train split, which ``made`` describes."""
        return self.lens.count(self._train.file, made.rows["train"])

    def renderings(self, row: str, sample: int) -> list[Rendering]:
        """The rows that were asked for by number, then those drawn."""
        chosen = [_parse(row)] if row else []
        if sample:
            total = sum(1 for _ in read_rows(self._train.file))
            chance = random.Random(self._recipe.data.seed)  # noqa: S311 - which rows to look at
            drawn = chance.sample(range(1, total + 1), min(sample, total))
            chosen += [("train", number) for number in sorted(drawn)]
        return [self._rendering(part, number) for part, number in chosen]

    def _rendering(self, part: str, number: int) -> Rendering:
        file = self._train.file if part == "train" else self._test.file
        messages: list[dict[str, Any]] | None = next(
            islice(read_rows(file), number - 1, None), None
        )
        if messages is None:
            total = sum(1 for _ in read_rows(file))
            raise FixableError(
                f"there is no row {number} in {file}, which has {total}", f"--row {part}:{total}"
            )
        return self.lens.show(f"{part}:{number}", messages)


def _parse(row: str) -> tuple[str, int]:
    part, _, number = row.rpartition(":")
    if part not in ("", "train", "test") or not number.isdecimal() or not int(number):
        raise FixableError(f"--row {row!r} is no row", "--row 1, or --row test:1")
    return part or "train", int(number)
