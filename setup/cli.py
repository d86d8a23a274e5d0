"""The command line: every step with the same options, results on stdout, progress on stderr."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from setup import cli_azure, cli_endpoint, cli_models, console, steps
from setup.azure import steps as azure_steps
from setup.azure.ask import answered
from setup.errors import FixableError
from setup.options import AsJson, DryRun, RecipeName, Sets, Yes, show, show_error
from setup.recipe import DEFAULT, DEFAULTS, Recipe, load_any_recipe, load_recipe, refuse
from setup.step import R, Step

if TYPE_CHECKING:
    from setup.doctor import Check

app = typer.Typer(
    help="Fine-tune a model on your data, deploy it, and connect the flows to it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Example: python -m setup up --set endpoint.port=8009",
)

_INTERRUPTED = 130  # what typer makes of Ctrl-C


def _perform(step: Step[R], recipe: R, dry_run: bool, as_json: bool) -> str:
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


def _chosen(path: list[Step[R]], name: str, target: str) -> list[Step[R]]:
    """The step ``name`` of a target's path, or all of it."""
    chosen = [step for step in path if name in (step.name, "up")]
    if not chosen:
        other = next(default for known, default in DEFAULTS.items() if known != target)
        raise FixableError(f"target {target} has no step {name}", f"--recipe {other}")
    return chosen


def _follow(path: list[Step[R]], recipe: R, dry_run: bool, as_json: bool) -> None:
    following = [_perform(step, recipe, dry_run, as_json) for step in path]
    _say_next(following[-1], as_json)


def _add(name: str, text: str, default: str) -> None:
    def command(
        recipe: RecipeName = default,
        sets: Sets = None,
        dry_run: DryRun = False,
        yes: Yes = False,
        as_json: AsJson = False,
    ) -> None:
        loaded = load_any_recipe(recipe, sets or [])
        if isinstance(loaded, Recipe):
            _follow(_chosen(steps.STEPS, name, loaded.target), loaded, dry_run, as_json)
        else:
            with answered(yes):
                path = _chosen(azure_steps.STEPS, name, loaded.target)
                _follow(path, loaded, dry_run, as_json)

    epilog = f"Example: python -m setup {name} --recipe {default}"
    app.command(name, help=text, epilog=epilog)(command)


_LOCAL = {step.name: step.help for step in steps.STEPS}
for _step in azure_steps.STEPS:  # the longer path, in its order
    if _step.name in _LOCAL:
        _add(_step.name, _LOCAL[_step.name], DEFAULT)
    else:
        _add(_step.name, f"{_step.help} Target azure only.", DEFAULTS["azure"])
_add("up", f"Run the whole path: {', '.join(_LOCAL)}; in Azure also the steps around it.", DEFAULT)
for _group in (cli_endpoint, cli_models, cli_azure):
    app.add_typer(_group.app)


@app.command(epilog="Example: python -m setup doctor --json")
def doctor(
    recipe: RecipeName = "",
    sets: Sets = None,
    target: Annotated[str, typer.Option(help="local or azure: its default recipe.")] = "",
    as_json: AsJson = False,
) -> None:
    """Find what would fail later; exit 1 with a fix for each finding."""
    checks = _checks(recipe, sets or [], target)
    ok = all(check.ok for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.detail}")
        lines += [] if check.ok else [f"      fix: {check.fix}"]
    content = {"ok": ok, "checks": [check.as_dict() for check in checks]}
    show(content, "\n".join(lines), as_json)
    raise typer.Exit(0 if ok else 1)


def _checks(recipe: str, sets: list[str], target: str) -> list[Check]:
    if target and target not in DEFAULTS:
        raise FixableError(f"no target {target!r}", f"--target {' or '.join(DEFAULTS)}")
    loaded = load_any_recipe(recipe or DEFAULTS[target or "local"], sets)
    if target and loaded.target != target:
        refuse(loaded, target)
    if isinstance(loaded, Recipe):
        from setup.doctor import run_checks  # noqa: PLC0415 - imports what only it checks

        return list(run_checks(loaded))
    from setup.azure.doctor import run_azure_checks  # noqa: PLC0415

    return list(run_azure_checks(loaded))


@app.command(epilog="Example: python -m setup demo --limit 20")
def demo(
    recipe: RecipeName = DEFAULT,
    sets: Sets = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows of the test split to ask.")] = 80,
) -> None:
    """Run the whole path, then evaluate base and tuned side by side, with a report."""
    # Not above: the fine-tuning job in Azure has setup alone.
    from evaluation.batch.watch import Interrupted  # noqa: PLC0415
    from setup.demo import run_demo  # noqa: PLC0415
    from setup.doctor import require_healthy  # noqa: PLC0415

    loaded = load_recipe(recipe, sets or [])
    require_healthy(loaded)
    for step in steps.STEPS:
        _perform(step, loaded, dry_run=False, as_json=False)
    try:
        run_demo(loaded, recipe, sets or [], limit)
    except Interrupted:
        console.err.print("interrupted; go on with: python -m evaluation run --resume")
        raise typer.Exit(_INTERRUPTED) from None


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
