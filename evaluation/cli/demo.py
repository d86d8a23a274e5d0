"""Command ``demo``: the whole path, then base and tuned side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from evaluation.batch.watch import Interrupted
from evaluation.demo import run_demo
from setup.cli.options import (
    ENDPOINT_STAYS,
    RecipeName,
    Sets,
    Stopped,
    after_interrupt,
    local_options,
    named_as_typed,
    perform,
)
from setup.local import steps
from setup.local.doctor import require_healthy
from setup.recipe.load import DEFAULT, load_recipe

app = typer.Typer()


@app.command(epilog="Example: python -m evaluation demo --limit 20")
def demo(
    recipe: RecipeName = DEFAULT,
    sets: Sets = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows of the test split to ask.")] = 80,
) -> None:
    """Run the whole path, then evaluate base and tuned side by side, with a report."""
    loaded = load_recipe(recipe, sets or [])
    require_healthy(loaded)
    options = local_options(recipe, sets or [])
    with after_interrupt(ENDPOINT_STAYS), named_as_typed(loaded.name, options):
        for step in steps.STEPS:
            perform(step, loaded)
        try:
            run_demo(loaded, recipe, sets or [], limit)
        except Interrupted:
            raise Stopped("python -m evaluation run --resume") from None
