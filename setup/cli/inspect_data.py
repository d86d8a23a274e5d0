"""The command that looks at prepared data before it is trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from setup.cli import options
from setup.common import console
from setup.finetune.inspect import page, sentences, terminal
from setup.finetune.inspect.look import Look
from setup.finetune.inspect.tokens import Rendering, Tokens
from setup.recipe.load import DEFAULT, load_recipe

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
        look = Look(loaded)
        if (row or sample) and not html:
            _show_renderings(look.renderings(row, sample), as_json)
            return
        made = look.survey()
        if not as_json:
            terminal.print_parts(console.out, sentences.survey_parts(made))
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
    terminal.print_parts(console.out, [sentences.token_part(tokens)])
    for chart in sentences.charts(tokens):
        terminal.print_chart(console.out, chart)


def _show_renderings(renderings: list[Rendering], as_json: bool) -> None:
    if as_json:
        content = {"conversations": [made.as_dict() for made in renderings]}
        options.show(content, "", as_json)
    else:
        terminal.print_renderings(console.out, renderings)
