"""The command that looks at prepared data before it is trained on."""

from __future__ import annotations

import random
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from setup.cli import options
from setup.common import console
from setup.common.errors import FixableError
from setup.data import PreparedSplit, prepared_split
from setup.data.plan import data_plan
from setup.finetune.examples.dataset import read_rows
from setup.finetune.inspect import page, terminal, wording
from setup.finetune.inspect.survey import Survey, survey
from setup.finetune.inspect.tokens import Lens, Rendering, Tokens
from setup.recipe.load import DEFAULT, load_recipe
from setup.recipe.local import Recipe

app = typer.Typer()
_ON_PAGE = 5  # conversations, unless --sample says otherwise


@app.command(epilog="Example: python -m setup inspect --sample 3")
def inspect(  # noqa: PLR0913, PLR0917 - one for each option of the command line
    recipe: options.RecipeName = DEFAULT,
    sets: options.Sets = None,
    row: Annotated[
        str, typer.Option(help="Show this row of the train split as it is trained; or test:N.")
    ] = "",
    sample: Annotated[int, typer.Option(min=0, help="Show so many rows, drawn by data.seed.")] = 0,
    html: Annotated[Path | None, typer.Option(help="Write a page with everything to it.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Show what is in the prepared data, and what exactly the model will be trained on."""
    loaded = load_recipe(recipe, sets or [])
    if html:
        page.refuse_path(html)
    with loaded.naming():
        look = _Look(loaded)
        if (row or sample) and not html:
            _show_renderings(look.renderings(row, sample), as_json)
            return
        made = look.survey()
        if not as_json:
            terminal.print_parts(console.out, wording.survey_parts(made))
        tokens = look.tokens(made)
        if as_json:
            options.show({**made.as_dict(), "tokens": tokens.as_dict()}, "", as_json)
        else:
            _show_tokens(tokens)
        if html:
            page.write_page(html, made, tokens, look.renderings(row, sample or _ON_PAGE))
    if html:
        console.err.print(f"the page is {html}", markup=False)
    elif not as_json:
        console.err.print(f"to read some: {loaded.command('inspect', '--sample 3')}", markup=False)
    options.say_next(loaded.command("finetune"), as_json)


def _show_tokens(tokens: Tokens) -> None:
    terminal.print_parts(console.out, [wording.token_part(tokens)])
    for chart in wording.charts(tokens):
        terminal.print_chart(console.out, chart)


def _show_renderings(renderings: list[Rendering], as_json: bool) -> None:
    if as_json:
        content = {"conversations": [made.as_dict() for made in renderings]}
        options.show(content, "", as_json)
    else:
        terminal.print_renderings(console.out, renderings)


class _Look:
    """The prepared files of a recipe, and the tokenizer once it is asked for."""

    def __init__(self, recipe: Recipe) -> None:
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
        self._lens = self._lens or Lens(self._recipe)
        return self._lens

    def survey(self) -> Survey:
        return survey(self._plan, self._train.file, self._test.file)

    def tokens(self, made: Survey) -> Tokens:
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
