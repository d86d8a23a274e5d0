"""Command ``demo``: the whole path, then base and tuned side by side."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from evaluation.ask.watch import Interrupted
from evaluation.cli.options import Reuse
from evaluation.demo import run_demo
from evaluation.engines.choice import call_for
from evaluation.first_answer import answer_first, torch_meanwhile
from setup.cli import options
from setup.cli.targets import session_of
from setup.common.console import Stopped
from setup.local import steps
from setup.local.doctor import require_healthy
from setup.recipe.load import DEFAULT, load_recipe

app = typer.Typer()


@app.command(epilog="Example: python -m evaluation demo --limit 20")
def demo(
    recipe: options.RecipeName = DEFAULT,
    sets: options.Sets = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows of the test split to ask.")] = 80,
    reuse: Reuse = True,
) -> None:
    """Let the base model answer, run the whole path, then evaluate base and tuned side by side."""
    loaded = load_recipe(recipe, sets or [])
    with session_of(loaded) as session:
        require_healthy(session, but="torch")
        with torch_meanwhile(session.folder / "install-torch.log") as wait_for_torch:
            answer_first(loaded)
            for step in steps.STEPS:
                if step.name == "finetune":
                    wait_for_torch()
                options.perform(step, session)
        try:
            run = partial(run_demo, reuse=reuse)
            call_for(loaded.evaluation.engine, run, loaded, recipe, sets or [], limit)
        except Interrupted:
            raise Stopped("python -m evaluation run --resume") from None
