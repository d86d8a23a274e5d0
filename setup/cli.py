"""The command line: every step with the same options, results on stdout, progress on stderr."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from setup import cli_azure, cli_endpoint, cli_models, console, steps
from setup.azure import steps as azure_steps
from setup.azure.command import in_azure
from setup.errors import FixableError
from setup.options import (
    AsJson,
    DryRun,
    RecipeName,
    Sets,
    Stopped,
    Yes,
    after_interrupt,
    as_typed,
    local_options,
    make_app,
    named_as_typed,
    run_app,
    say_next,
    show,
    show_result,
    typed_options,
)
from setup.recipe import DEFAULT, DEFAULTS, Recipe, load_any_recipe, load_recipe, refuse
from setup.step import R, Step

if TYPE_CHECKING:
    from setup.doctor import Check

app = make_app(
    "Fine-tune a model on your data, deploy it, and connect the flows to it.",
    "python -m setup up --set endpoint.port=8009",
)
_ENDPOINT_STAYS = "an endpoint that was started goes on: python -m setup stop"


def _perform(step: Step[R], recipe: R, dry_run: bool, as_json: bool) -> str:
    """Run or plan the step and print what came of it; returns the command that comes next."""
    if dry_run:
        with console.progress_bar(f"Planning {step.name}"):
            plan = [as_typed(line) for line in step.plan(recipe)]
        show({"step": step.name, "plan": plan}, "\n".join([f"{step.name}:", *plan]), as_json)
        return ""
    if console.err.is_terminal:
        console.err.print(f"{step.name} …")
    return show_result(step.run(recipe), as_json)


def _chosen(path: list[Step[R]], name: str, target: str) -> list[Step[R]]:
    """The step ``name`` of a target's path, or all of it."""
    chosen = [step for step in path if name in (step.name, "up")]
    if not chosen:
        other = next(default for known, default in DEFAULTS.items() if known != target)
        raise FixableError(f"target {target} has no step {name}", f"--recipe {other}")
    return chosen


def _follow(path: list[Step[R]], recipe: R, dry_run: bool, as_json: bool) -> None:
    following = [_perform(step, recipe, dry_run, as_json) for step in path]
    say_next(following[-1], as_json)


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
            options = local_options(recipe, sets or [])
            with after_interrupt(_ENDPOINT_STAYS), named_as_typed(loaded.name, options):
                _follow(_chosen(steps.STEPS, name, loaded.target), loaded, dry_run, as_json)
        else:
            with in_azure(loaded, typed_options(recipe, sets or []), yes):
                path = _chosen(azure_steps.STEPS, name, loaded.target)
                _follow(path, loaded, dry_run, as_json)

    epilog = f"Example: python -m setup {name} --recipe {default}"
    app.command(name, help=text, epilog=epilog)(command)


_LOCAL = {step.name: step.help for step in steps.STEPS}
for _step in azure_steps.STEPS:  # the longer path, in its order
    if _step.name in _LOCAL:
        _add(_step.name, _LOCAL[_step.name], DEFAULT)
    else:
        _add(_step.name, f"In Azure: {_step.help}", DEFAULTS["azure"])
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
    checks = []
    for check in _checks(recipe, sets or [], target):
        checks.append(check)
        if not as_json:
            show({}, check.line(), as_json)
    ok = all(check.ok for check in checks)
    if as_json:
        show({"ok": ok, "checks": [check.as_dict() for check in checks]}, "", as_json)
    raise typer.Exit(0 if ok else 1)


def _checks(recipe: str, sets: list[str], target: str) -> Iterator[Check]:
    if target and target not in DEFAULTS:
        raise FixableError(f"no target {target!r}", f"--target {' or '.join(DEFAULTS)}")
    recipe = recipe or DEFAULTS[target or "local"]
    loaded = load_any_recipe(recipe, sets)
    if target and loaded.target != target:
        refuse(loaded, target)
    if isinstance(loaded, Recipe):
        from setup.doctor import run_checks  # noqa: PLC0415 - imports what only it checks

        yield from run_checks(loaded)
        return
    from setup.azure.doctor import run_azure_checks  # noqa: PLC0415

    with in_azure(loaded, typed_options(recipe, sets)):
        for check in run_azure_checks(loaded):
            yield replace(check, detail=as_typed(check.detail), fix=as_typed(check.fix))


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
    options = local_options(recipe, sets or [])
    with after_interrupt(_ENDPOINT_STAYS), named_as_typed(loaded.name, options):
        for step in steps.STEPS:
            _perform(step, loaded, dry_run=False, as_json=False)
        try:
            run_demo(loaded, recipe, sets or [], limit)
        except Interrupted:
            raise Stopped("python -m evaluation run --resume") from None


def main() -> None:
    """Run the command; of the processes of ``torchrun`` the first one speaks for all."""
    if os.environ.get("RANK", "0") != "0":
        console.out.quiet = console.err.quiet = True
    run_app(app)
