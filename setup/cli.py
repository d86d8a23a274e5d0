"""The command line: every step with the same options, results on stdout, progress on stderr."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from setup import cli_endpoint, cli_models, console, steps
from setup.errors import FixableError
from setup.options import AsJson, DryRun, RecipeName, Sets, show, show_error
from setup.recipe import DEFAULT, Recipe, load_recipe
from setup.step import Step

app = typer.Typer(
    help="Fine-tune a model on your data, deploy it, and connect the flows to it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Example: python -m setup up --set endpoint.port=8009",
)

_INTERRUPTED = 130  # what typer makes of Ctrl-C


def _perform(step: Step, recipe: Recipe, dry_run: bool, as_json: bool) -> str:
    """Run or plan the step and print what came of it; returns the command that comes next."""
    if dry_run:
        plan = step.plan(recipe)
        show({"step": step.name, "plan": plan}, "\n".join(plan), as_json)
        return ""
    result = step.run(recipe)
    show(result.as_dict(), result.line(), as_json)
    return result.next


def _say_next(command: str, as_json: bool) -> None:
    if command and not as_json:
        console.err.print(f"next: {command}", markup=False)


def _add(name: str, text: str, path: list[Step]) -> None:
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
_add("up", "Run the whole path: data, finetune, register, deploy, connect.", steps.STEPS)
for _group in (cli_endpoint, cli_models):
    app.add_typer(_group.app)


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
    show(content, "\n".join(lines), as_json)
    raise typer.Exit(0 if ok else 1)


@app.command(epilog="Example: python -m setup demo --limit 20")
def demo(
    recipe: RecipeName = DEFAULT,
    sets: Sets = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows of the test split to ask.")] = 80,
) -> None:
    """Run the whole path, then evaluate base and tuned side by side, with a report."""
    from setup.demo import run_demo  # noqa: PLC0415
    from setup.doctor import require_healthy  # noqa: PLC0415

    loaded = load_recipe(recipe, sets or [])
    require_healthy(loaded)
    for step in steps.STEPS:
        _perform(step, loaded, dry_run=False, as_json=False)
    run_demo(loaded, recipe, sets or [], limit)


def main() -> None:
    """Run the command; what the user can fix is one line and exit 1, Ctrl-C is exit 130.

    Of the processes of ``torchrun`` the first one speaks for all.
    """
    if os.environ.get("RANK", "0") != "0":
        console.out.quiet = console.err.quiet = True
    try:
        app()
    except FixableError as error:
        console.err.quiet = False
        show_error(error)
        raise SystemExit(1) from None
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            console.err.print(
                "interrupted; run the same command again. An endpoint that was started goes on: "
                "python -m setup stop"
            )
        raise
