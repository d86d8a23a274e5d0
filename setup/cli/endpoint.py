"""Commands about the running endpoint: status, logs, traffic, delete, stop."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from setup.cli.options import AsJson, RecipeName, Sets, show
from setup.common import console
from setup.common.errors import FixableError
from setup.common.step import Result
from setup.local.control import LocalEndpoint
from setup.recipe.load import DEFAULT, load_recipe

app = typer.Typer()


def _endpoint(recipe: str, sets: list[str] | None) -> LocalEndpoint:
    return LocalEndpoint(load_recipe(recipe, sets or []))


@app.command(epilog="Example: python -m setup status --json")
def status(recipe: RecipeName = DEFAULT, sets: Sets = None, as_json: AsJson = False) -> None:
    """Show the endpoint, its deployments and their traffic; exit 1 when it cannot answer."""
    endpoint = _endpoint(recipe, sets)
    facts = endpoint.status()
    if as_json:
        show(facts, "", as_json)
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
    recipe: RecipeName = DEFAULT,
    sets: Sets = None,
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
    recipe: RecipeName = DEFAULT,
    sets: Sets = None,
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
    recipe: RecipeName = DEFAULT,
    sets: Sets = None,
) -> None:
    """Remove a deployment after the requests it has accepted."""
    endpoint = _endpoint(recipe, sets)
    endpoint.manage("DELETE", f"/deployments/{deployment}", timeout=endpoint.patience)
    console.out.print(f"delete: deployment {deployment} is gone")


@app.command(epilog="Example: python -m setup stop")
def stop(recipe: RecipeName = DEFAULT, sets: Sets = None, as_json: AsJson = False) -> None:
    """Stop the endpoint after the requests it has accepted."""
    endpoint = _endpoint(recipe, sets)
    stopped = endpoint.stop(endpoint.patience)
    detail = f"endpoint {endpoint.name} {'stopped' if stopped else 'was not running'}"
    result = Result("stop", stopped, detail, endpoint.recipe.command("deploy"))
    show(result.as_dict(), result.line(), as_json)
