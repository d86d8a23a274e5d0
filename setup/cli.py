"""The command line: every step with the same options, results on stdout, progress on stderr."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from setup import console, steps
from setup.errors import FixableError
from setup.recipe import DEFAULT, Recipe, load_recipe

app = typer.Typer(
    help="Prepare data, deploy a model behind an endpoint, and connect the flows to it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Example: python -m setup up --set endpoint.port=8009",
)

_INTERRUPTED = 130  # what typer makes of Ctrl-C

RecipeName = Annotated[str, typer.Option("--recipe", help="A file of setup/recipes, or a path.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="section.field=value; may be repeated.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="The result as JSON, one object for each step.")
]


def _perform(step: steps.Step, recipe: Recipe, dry_run: bool, as_json: bool) -> str:
    """Run or plan the step and print what came of it; returns the command that comes next."""
    if dry_run:
        plan = step.plan(recipe)
        _show({"step": step.name, "plan": plan}, "\n".join(plan), as_json)
        return ""
    result = step.run(recipe)
    _show(result.as_dict(), result.line(), as_json)
    return result.next


def _say_next(command: str, as_json: bool) -> None:
    if command and not as_json:
        console.err.print(f"next: {command}", markup=False)


def _show(content: dict[str, Any], text: str, as_json: bool) -> None:
    console.out.print(json.dumps(content) if as_json else text, markup=False)


def _add(name: str, text: str, path: list[steps.Step]) -> None:
    def command(
        recipe: RecipeName = DEFAULT,
        sets: Sets = None,
        dry_run: DryRun = False,
        as_json: AsJson = False,
    ) -> None:
        loaded = load_recipe(recipe, sets or [])
        following = [_perform(step, loaded, dry_run, as_json) for step in path]
        _say_next(following[-1], as_json)

    epilog = f"Example: python -m setup {name} --recipe {DEFAULT}"
    app.command(name, help=text, epilog=epilog)(command)


for _step in steps.STEPS:
    _add(_step.name, _step.help, [_step])
_add("up", "Run the whole path: data, deploy, connect.", steps.STEPS)


@app.command(epilog="Example: python -m setup doctor --json")
def doctor(recipe: RecipeName = DEFAULT, sets: Sets = None, as_json: AsJson = False) -> None:
    """Find what would fail later; exit 1 with a fix for each finding."""
    from setup.doctor import run_checks  # noqa: PLC0415 - imports what only it checks

    checks = list(run_checks(load_recipe(recipe, sets or [])))
    ok = all(check.ok for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.detail}")
        lines += [] if check.ok else [f"      fix: {check.fix}"]
    content = {"ok": ok, "checks": [check.as_dict() for check in checks]}
    _show(content, "\n".join(lines), as_json)
    raise typer.Exit(0 if ok else 1)


@app.command(epilog="Example: python -m setup status --json")
def status(recipe: RecipeName = DEFAULT, sets: Sets = None, as_json: AsJson = False) -> None:
    """Show the endpoint, its deployments and their traffic; exit 1 when it cannot answer."""
    facts = steps.endpoint_status(load_recipe(recipe, sets or []))
    if as_json:
        _show(facts, "", as_json)
    elif not facts["running"]:
        console.out.print(f"endpoint {facts['name']} is not running; next: python -m setup deploy")
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
    for line in steps.log_lines(load_recipe(recipe, sets or []), lines, follow, deployment):
        sys.stdout.write(line)
        sys.stdout.flush()


@app.command(epilog="Example: python -m setup traffic base=90 tuned=10")
def traffic(
    shares: Annotated[list[str], typer.Argument(help="DEPLOYMENT=PERCENT, in all 100 (or 0).")],
    recipe: RecipeName = DEFAULT,
    sets: Sets = None,
) -> None:
    """Set how many per cent of the requests each deployment takes."""
    table = steps.shift_traffic(load_recipe(recipe, sets or []), shares)
    console.out.print("traffic: " + ", ".join(f"{name} {share} %" for name, share in table.items()))


@app.command(epilog="Example: python -m setup delete tuned")
def delete(
    deployment: Annotated[str, typer.Argument(help="A deployment that takes no traffic.")],
    recipe: RecipeName = DEFAULT,
    sets: Sets = None,
) -> None:
    """Remove a deployment after the requests it has accepted."""
    steps.delete_deployment(load_recipe(recipe, sets or []), deployment)
    console.out.print(f"delete: deployment {deployment} is gone")


@app.command(epilog="Example: python -m setup stop")
def stop(recipe: RecipeName = DEFAULT, sets: Sets = None, as_json: AsJson = False) -> None:
    """Stop the endpoint after the requests it has accepted."""
    result = steps.stop(load_recipe(recipe, sets or []))
    _show(result.as_dict(), result.line(), as_json)


@app.command(epilog="Example: python -m setup demo --limit 20")
def demo(
    recipe: RecipeName = DEFAULT,
    sets: Sets = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows of the test split to ask.")] = 20,
) -> None:
    """Run the whole path, then ask the endpoint through the real pf: once, and in a batch."""
    from setup.demo import run_demo  # noqa: PLC0415
    from setup.doctor import require_healthy  # noqa: PLC0415

    loaded = load_recipe(recipe, sets or [])
    require_healthy(loaded)
    for step in steps.STEPS:
        _perform(step, loaded, dry_run=False, as_json=False)
    run_demo(loaded, steps.data_plan(loaded).paths.test, limit)


def main() -> None:
    """Run the command; what the user can fix is one line and exit 1, Ctrl-C is exit 130."""
    try:
        app()
    except FixableError as error:
        if "--json" in sys.argv:
            content = {"ok": False, "error": error.what, "fix": error.fix}
            console.out.print(json.dumps(content), markup=False)
        else:
            console.err.print(f"error: {error}", markup=False)
        raise SystemExit(1) from None
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            console.err.print(
                "interrupted; run the same command again. An endpoint that was started goes on: "
                "python -m setup stop"
            )
        raise
