"""Commands ``parity`` and ``exit``: which engine runs the flows, and how to leave Prompt flow."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from evaluation.engines.parity import compare_engines
from evaluation.exit import cut_over, make_audit
from setup.cli import options
from setup.cli.targets import session_of
from setup.common.errors import FixableError
from setup.common.paths import REPOSITORY, runs_folder
from setup.common.promptflow_store import is_promptflow_installed
from setup.recipe.azure import AzureRecipe
from setup.recipe.load import DEFAULT, find_recipe, load_any_recipe, load_recipe

_DATA = REPOSITORY / "data" / "sample" / "test.jsonl"
_ENGINES = ("promptflow", "plain", "agent")
_FAILED = 3  # the exit code where engines differ, or only promptflow runs a node
app = typer.Typer()


@app.command(epilog="Example: python -m evaluation parity --connection phi-tuned --name first")
def parity(
    engines: Annotated[
        str, typer.Option(help="A,B[,C]; each NAME, or NAME@PYTHON of its environment.")
    ] = "promptflow,plain",
    data: Annotated[Path, typer.Option(exists=True, help="The questions, as JSONL.")] = _DATA,
    connection: Annotated[str, typer.Option(help="Ask this endpoint, too: A twice, B once.")] = "",
    name: Annotated[str, typer.Option(help="The result is runs/parity-NAME/.")] = "latest",
    as_json: options.AsJson = False,
) -> None:
    """Run the flows on several engines; exit 3 unless requests, answers, scores, errors agree."""
    specs = engines.split(",")
    known = [spec.partition("@")[0] in _ENGINES for spec in specs]
    if len(specs) < 2 or not all(known) or specs[0].startswith("agent"):
        fix = f"name two or more of: {', '.join(_ENGINES)}; agent not as the first"
        raise FixableError(f"--engines {engines}", fix)
    result = compare_engines(specs, data, connection)
    folder = runs_folder() / f"parity-{name}"
    result.write(folder)
    options.show(result.as_dict(), f"{result.as_markdown()}\n{folder}", as_json)
    if result.differences:
        raise typer.Exit(_FAILED)


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

    With a recipe for Azure the audit lists the flows and connections in its project. The cutover
    wants a comparison of the engines that was clean at this very commit.
    """
    if step is Step.cutover:
        load_recipe(recipe, sets or [])  # runs in a project have no other engine
        changed = cut_over(find_recipe(recipe), engine)
        done = "is the default now" if changed else "was the default already"
        told = f"cutover: engine {engine} {done} (evaluation.engine in {find_recipe(recipe)})"
        options.show({"ok": True, "changed": changed, "engine": engine}, told, as_json)
        return
    loaded, uploads, there = load_any_recipe(recipe, sets or []), None, dict[str, list[str]]()
    if isinstance(loaded, AzureRecipe):
        from setup.azure.project.connections import listed_connections
        from setup.azure.project.upload import uploaded_flows

        with session_of(loaded) as session:
            uploads = uploaded_flows(session) if is_promptflow_installed() else None
            there[f"project {loaded.azure.project}"] = listed_connections(session)
    audit = make_audit(uploads, there)
    options.show(audit.as_dict(), audit.text(), as_json)
    if audit.holes:
        raise typer.Exit(_FAILED)
