"""Command ``exit``: what leaving Prompt flow takes, and the change of the default engine."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from evaluation.exit import cut_over, make_audit
from setup.cli import options
from setup.cli.targets import session_of
from setup.recipe.load import DEFAULT, find_recipe, load_any_recipe

app = typer.Typer()
_HOLE = 3  # the exit code


class Step(StrEnum):
    """A step of the way."""

    audit = "audit"
    cutover = "cutover"


@app.command("exit", epilog="Example: python -m evaluation exit audit --json")
def leave(
    step: Annotated[Step, typer.Argument(help="audit only looks; cutover changes the recipe.")],
    recipe: options.RecipeName = DEFAULT,
    sets: options.Sets = None,
    engine: Annotated[str, typer.Option(help="Of cutover: the engine that runs flows.")] = "plain",
    as_json: options.AsJson = False,
) -> None:
    """Leave Prompt flow: see what needs it (exit 3 on a hole), change the default engine.

    With a recipe for Azure the audit lists the flows in its project. The cutover wants a comparison
    of the engines that was clean at this very commit.
    """
    loaded = load_any_recipe(recipe, sets or [])
    if step is Step.cutover:
        changed = cut_over(find_recipe(recipe), engine)
        done = "is the default now" if changed else "was the default already"
        told = f"cutover: engine {engine} {done} (evaluation.engine in {find_recipe(recipe)})"
        options.show({"ok": True, "changed": changed, "engine": engine}, told, as_json)
        return
    uploads = None
    if loaded.target == "azure":
        from setup.azure.project.upload import uploaded_flows  # noqa: PLC0415 - azure is slow

        with session_of(loaded) as session:
            uploads = uploaded_flows(session)
    audit = make_audit(uploads)
    options.show(audit.as_dict(), audit.text(), as_json)
    if audit.holes:
        raise typer.Exit(_HOLE)
