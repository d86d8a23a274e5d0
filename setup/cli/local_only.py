"""Commands that only target local has: about its endpoint, and about the versions of a model."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from setup.cli import inspect_data, options
from setup.common import console
from setup.common.errors import FixableError
from setup.common.step import Result
from setup.local.control import LocalEndpoint
from setup.recipe.load import DEFAULT, load_recipe

app = typer.Typer()
app.add_typer(inspect_data.app)


def _endpoint(recipe: str, sets: list[str] | None) -> LocalEndpoint:
    return LocalEndpoint(load_recipe(recipe, sets or []))


@app.command(epilog="Example: python -m setup status --json")
def status(
    recipe: options.RecipeName = DEFAULT, sets: options.Sets = None, as_json: options.AsJson = False
) -> None:
    """Show the endpoint, its deployments and their traffic; exit 1 when it cannot answer."""
    endpoint = _endpoint(recipe, sets)
    facts = endpoint.status()
    if as_json:
        options.show(facts, "", as_json)
    elif not facts["running"]:
        told = f"endpoint {endpoint.name} is not running; next: {endpoint.recipe.command('deploy')}"
        console.out.print(told, markup=False)
    else:
        _print_status(facts)
    raise typer.Exit(0 if facts["healthy"] else 1)


def _print_status(facts: dict[str, Any]) -> None:
    state = "healthy" if facts["healthy"] else "NOT healthy"
    console.out.print(f"endpoint {facts['name']}: {state} at {facts['url']} (pid {facts['pid']})")
    table = Table("deployment", "traffic", "state", "busy", "waiting", "model")
    for name, row in facts["deployments"].items():
        state = "healthy" if row["healthy"] else "down"
        busy, model = f"{row['admitted']}/{row['slots']}", Path(row["model_path"]).name
        table.add_row(name, f"{row['traffic']} %", state, busy, str(row["waiting"]), model)
    console.out.print(table)


@app.command(epilog="Example: python -m setup logs --lines 50 --follow")
def logs(
    recipe: options.RecipeName = DEFAULT,
    sets: options.Sets = None,
    lines: Annotated[int, typer.Option(min=0, help="How many of the last lines.")] = 20,
    follow: Annotated[bool, typer.Option(help="Go on until Ctrl-C.")] = False,
    deployment: Annotated[str, typer.Option(help="The engine log of this deployment.")] = "",
) -> None:
    """Print the endpoint's log: one JSON object a line, never a prompt or a key."""
    for line in _endpoint(recipe, sets).log_lines(lines, follow, deployment):
        sys.stdout.write(line)
        sys.stdout.flush()


@app.command(epilog="Example: python -m setup traffic base=90 tuned=10")
def traffic(
    shares: Annotated[list[str], typer.Argument(help="DEPLOYMENT=PERCENT, in all 100 (or 0).")],
    recipe: options.RecipeName = DEFAULT,
    sets: options.Sets = None,
) -> None:
    """Set how many per cent of the requests each deployment takes."""
    table = {}
    for share in shares:
        name, _, percent = share.partition("=")
        if not percent.isdecimal():
            raise FixableError(f"{share!r} is not DEPLOYMENT=PERCENT", "base=90 tuned=10")
        table[name] = int(percent)
    _endpoint(recipe, sets).manage("PUT", "/traffic", table)
    console.out.print("traffic: " + ", ".join(f"{name} {share} %" for name, share in table.items()))


@app.command(epilog="Example: python -m setup delete tuned")
def delete(
    deployment: Annotated[str, typer.Argument(help="A deployment that takes no traffic.")],
    recipe: options.RecipeName = DEFAULT,
    sets: options.Sets = None,
) -> None:
    """Remove a deployment after the requests it has accepted."""
    endpoint = _endpoint(recipe, sets)
    endpoint.manage("DELETE", f"/deployments/{deployment}", timeout=endpoint.patience)
    console.out.print(f"delete: deployment {deployment} is gone")


@app.command(epilog="Example: python -m setup stop")
def stop(
    recipe: options.RecipeName = DEFAULT, sets: options.Sets = None, as_json: options.AsJson = False
) -> None:
    """Stop the endpoint after the requests it has accepted."""
    endpoint = _endpoint(recipe, sets)
    stopped = endpoint.stop(endpoint.patience)
    detail = f"endpoint {endpoint.name} {'stopped' if stopped else 'was not running'}"
    result = Result("stop", stopped, detail, endpoint.recipe.command("deploy"))
    options.show(result.as_dict(), result.line(), as_json)


class Form(StrEnum):
    """In which form a version is exported."""

    gguf = "gguf"
    adapter = "adapter"
    transformers = "transformers"


@app.command(epilog="Example: python -m setup models --json")
def models(
    recipe: options.RecipeName = DEFAULT, sets: options.Sets = None, as_json: options.AsJson = False
) -> None:
    """List the registered versions of the recipe's model."""
    from setup.local.registry import list_versions

    loaded = load_recipe(recipe, sets or [])
    model = loaded.registry.model
    with loaded.naming():
        versions = list_versions(model)
    if as_json:
        options.show(
            {"model": model, "versions": [version.as_dict() for version in versions]}, "", True
        )
        return
    if not versions:
        console.out.print(f"no version of {model} yet; next: {loaded.command('finetune')}")
        return
    table = Table("version", "created", "held-out loss", "general loss", "rows", "epochs", "")
    for version in versions:
        table.add_row(
            str(version.number),
            f"{version.created:%Y-%m-%d %H:%M}",
            f"{version.held_out_before:.3f} -> {version.held_out_after:.3f}",
            f"{version.general_before:.3f} -> {version.general_after:.3f}",
            str(version.train_rows),
            f"{version.epochs:g}",
            "champion" if version.champion else "",
        )
    console.out.print(table)


@app.command(epilog="Example: python -m setup promote 3")
def promote(
    number: Annotated[int, typer.Argument(min=1, help="A version that `models` lists.")],
    recipe: options.RecipeName = DEFAULT,
    sets: options.Sets = None,
) -> None:
    """Make a version the champion, whatever its held-out loss."""
    from setup.local import registry

    loaded = load_recipe(recipe, sets or [])
    with loaded.naming():
        version = registry.promote(loaded.registry.model, number)
    console.out.print(f"promote: version {version.number} of {version.model} is the champion")
    options.say_next(loaded.command("deploy"), as_json=False)


@app.command(epilog="Example: python -m setup export --form gguf --out tuned.gguf")
def export(
    out: Annotated[Path, typer.Option(help="The file, or for transformers the folder, to write.")],
    form: Annotated[
        Form, typer.Option(help="Merged GGUF, GGUF adapter, or merged transformers folder.")
    ] = Form.gguf,
    version: Annotated[str, typer.Option(help="champion, or a number.")] = "champion",
    recipe: options.RecipeName = DEFAULT,
    sets: options.Sets = None,
) -> None:
    """Write a registered version in a form that other servers load."""
    from setup.local.export import export_version

    loaded = load_recipe(recipe, sets or [])
    with loaded.naming():
        exported = export_version(loaded, version, form.value, out)
    told = f"export: version {exported.number} of {exported.model} as {form.value} in {out}"
    console.out.print(told, markup=False)
