"""Commands about the deployed endpoint, whatever the target: status, logs, traffic, delete."""

from __future__ import annotations

import sys
from pathlib import PurePosixPath
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from setup.cli import options
from setup.cli.targets import endpoint_of
from setup.common import console
from setup.common.errors import FixableError
from setup.common.feedback_file import feedback_path, feedback_size
from setup.recipe.load import DEFAULT, load_any_recipe

app = typer.Typer()
_EXAMPLE = "base=90 tuned=10"
_ROOM = "to make room: python -m setup feedback --delete ID, or a larger endpoint.collect_limit"


@app.command(epilog="Example: python -m setup status --json")
def status(
    recipe: options.RecipeName = DEFAULT, sets: options.Sets = None, as_json: options.AsJson = False
) -> None:
    """Show the endpoint, its deployments and their traffic; exit 1 when it cannot answer."""
    loaded = load_any_recipe(recipe, sets or [])
    with endpoint_of(loaded) as endpoint:
        facts = endpoint.status()
    if as_json:
        options.show(facts, "", as_json)
    elif not facts["running"]:
        told = f"endpoint {facts['name']} is not running; next: {loaded.command('deploy')}"
        console.out.print(told, markup=False)
    else:
        _print_status(facts)
    raise typer.Exit(0 if facts["healthy"] else 1)


def _print_status(facts: dict[str, Any]) -> None:
    state = "healthy" if facts["healthy"] else "NOT healthy"
    process = f" (pid {facts['pid']})" if "pid" in facts else ""
    told = f"endpoint {facts['name']}: {state} at {facts['url']}{process}"
    console.out.print(told, markup=False, soft_wrap=True)
    whole = Column("model", overflow="fold")  # its end says in what it is quantised
    table = Table("deployment", "traffic", "state", "busy", "waiting", whole)
    for name, row in facts["deployments"].items():
        busy = "?" if row["admitted"] is None else str(row["admitted"])
        waiting = "?" if row["waiting"] is None else str(row["waiting"])
        slots, model = row["slots"], PurePosixPath(row["model_path"]).name
        cells = (_traffic(row), _state(row), f"{busy}/{slots}", waiting, model + _machines(row))
        table.add_row(name, *cells)
    console.out.print(table)
    if (collect := facts.get("collect", "none")) != "none":
        size, limit = feedback_size(), facts["collect_limit"]
        told = f"collects {collect}: {feedback_path()} has {size:,} of {limit:,} bytes"
        if size >= limit:
            told += f", and nothing more is kept; {_ROOM}"
        elif facts.get("kept", {}).get("full"):
            told += f", and what came last had no room; {_ROOM}"
        console.out.print(told, markup=False)
    if facts.get("traces"):
        console.out.print(f"traces go to {facts['traces']}", markup=False)


def _traffic(row: dict[str, Any]) -> str:
    copies = row.get("mirror")
    return f"{row['traffic']} %" + (f", copies of {copies} %" if copies else "")


def _state(row: dict[str, Any]) -> str:
    return "healthy" if row["healthy"] else str(row.get("state") or "down").lower()


def _machines(row: dict[str, Any]) -> str:
    if not row.get("sku"):
        return ""
    scale = row["scale"]
    of = f" ({scale['min']} to {scale['max']})" if scale else ""
    return f" on {row['instances']}{of} x {row['sku']}"


@app.command(epilog="Example: python -m setup logs --lines 50 --follow")
def logs(
    recipe: options.RecipeName = DEFAULT,
    sets: options.Sets = None,
    lines: Annotated[int, typer.Option(min=0, help="How many of the last lines.")] = 20,
    follow: Annotated[bool, typer.Option(help="Go on until Ctrl-C.")] = False,
    deployment: Annotated[
        str,
        typer.Option(help="The engine log of this one; in Azure: of its container."),
    ] = "",
) -> None:
    """Print the endpoint's log: one JSON object a line, never a prompt or a key.

    In Azure: what the container of a deployment printed, by default of the one with most traffic.
    """
    with endpoint_of(load_any_recipe(recipe, sets or [])) as endpoint:
        for line in endpoint.log_lines(lines, follow, deployment):
            sys.stdout.write(line)
            sys.stdout.flush()


@app.command(epilog=f"Example: python -m setup traffic {_EXAMPLE}")
def traffic(
    shares: Annotated[list[str], typer.Argument(help="DEPLOYMENT=PERCENT, in all 100 (or 0).")],
    recipe: options.RecipeName = DEFAULT,
    sets: options.Sets = None,
    mirror: Annotated[
        bool,
        typer.Option(
            "--mirror",
            help="In Azure: send copies of so many per cent of the requests, whose answers nobody "
            "sees, instead of requests.",
        ),
    ] = False,
) -> None:
    """Set how many per cent of the requests each deployment takes: raise a canary, or end it."""
    table = dict(map(_share, shares))
    if len(table) < len(shares):
        raise FixableError(f"a deployment is named twice: {' '.join(shares)}", "name each one once")
    with endpoint_of(load_any_recipe(recipe, sets or [])) as endpoint:
        (endpoint.set_mirror if mirror else endpoint.set_traffic)(table)
    told = ", ".join(f"{name} {share} %" for name, share in table.items())
    console.out.print(f"{'mirror' if mirror else 'traffic'}: {told}", markup=False)


def _share(text: str) -> tuple[str, int]:
    name, _, percent = text.partition("=")
    if not name or not percent.isdecimal():
        raise FixableError(f"{text!r} is not DEPLOYMENT=PERCENT", _EXAMPLE)
    return name, int(percent)


@app.command(epilog="Example: python -m setup delete tuned")
def delete(
    deployment: Annotated[str, typer.Argument(help="A deployment that takes no traffic.")],
    recipe: options.RecipeName = DEFAULT,
    sets: options.Sets = None,
) -> None:
    """Remove a deployment after the requests it has accepted."""
    with endpoint_of(load_any_recipe(recipe, sets or [])) as endpoint:
        endpoint.delete(deployment)
    console.out.print(f"delete: deployment {deployment} is gone", markup=False)
