"""The command line: every step with the same options, results on stdout, progress on stderr."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from setup.cli import azure_only, chat, connection, endpoint, feedback_list, local_only, options
from setup.cli.targets import TARGETS, session_of
from setup.common import console
from setup.common.checks import Check
from setup.common.errors import FixableError
from setup.common.step import Step
from setup.recipe.load import DEFAULT, DEFAULTS, load_any_recipe

app = options.make_app(
    "Fine-tune a model on your data, deploy it, and connect the flows to it.",
    "python -m setup up --set endpoint.port=8009",
)
_HANDED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def _chosen(name: str, target: str) -> list[Step[Any]]:
    """The step ``name`` of a target's path, or all of it."""
    chosen = [step for step in TARGETS[target].STEPS if name in (step.name, "up")]
    if not chosen:
        other = next(default for known, default in DEFAULTS.items() if known != target)
        raise FixableError(f"target {target} has no step {name}", f"--recipe {other}")
    return chosen


def _add(name: str, text: str, default: str) -> None:
    def command(
        recipe: options.RecipeName = default,
        sets: options.Sets = None,
        dry_run: options.DryRun = False,
        yes: options.Yes = False,
        as_json: options.AsJson = False,
    ) -> None:
        loaded = load_any_recipe(recipe, sets or [])
        path = _chosen(name, loaded.target)
        with session_of(loaded, yes) as session:
            following = [options.perform(step, session, dry_run, as_json) for step in path]
            options.say_next(following[-1], as_json)

    epilog = f"Example: python -m setup {name} --recipe {default}"
    app.command(name, help=text, epilog=epilog)(command)


def _add_register(text: str) -> None:
    def register(  # noqa: PLR0913, PLR0917 - the options
        recipe: options.RecipeName = DEFAULT,
        sets: options.Sets = None,
        adapter: Annotated[Path | None, typer.Option(help=_ADAPTER)] = None,
        dry_run: options.DryRun = False,
        yes: options.Yes = False,
        as_json: options.AsJson = False,
    ) -> None:
        loaded = load_any_recipe(recipe, sets or [])
        [step] = _chosen("register", loaded.target)
        if adapter:
            step = local_only.adapter_step(step, loaded, adapter)
        with session_of(loaded, yes) as session:
            options.say_next(options.perform(step, session, dry_run, as_json), as_json)

    epilog = "Example: python -m setup register --adapter FOLDER"
    app.command("register", help=text, epilog=epilog)(register)


_ADAPTER = (
    "Register this LoRA instead of the run: a folder that peft, unsloth, axolotl, LLaMA-Factory or "
    "trl wrote. Its held-out loss is measured on the prepared data. Target local only."
)
_LOCAL = {step.name: step.help for step in TARGETS["local"].STEPS}
for _step in TARGETS["azure"].STEPS:  # the longer path, in its order
    if _step.name == "register":
        _add_register(_LOCAL[_step.name])
    elif _step.name in _LOCAL:
        _add(_step.name, _LOCAL[_step.name], DEFAULT)
    else:
        _add(_step.name, f"In Azure: {_step.help}", DEFAULTS["azure"])
_add("up", f"Run the whole path: {', '.join(_LOCAL)}; in Azure also the steps around it.", DEFAULT)
for _group in (chat, connection, endpoint, local_only, feedback_list, azure_only):
    app.add_typer(_group.app)


@app.command(epilog="Example: python -m setup doctor --json")
def doctor(
    recipe: options.RecipeName = "",
    sets: options.Sets = None,
    target: Annotated[str, typer.Option(help="local or azure: its default recipe.")] = "",
    as_json: options.AsJson = False,
) -> None:
    """Find what would fail later; exit 1 with a fix for each finding."""
    checks = []
    for check in _checks(recipe, sets or [], target):
        checks.append(check)
        if not as_json:
            options.show({}, check.line(), as_json)
    ok = all(check.ok for check in checks)
    if as_json:
        options.show({"ok": ok, "checks": [check.as_dict() for check in checks]}, "", as_json)
    raise typer.Exit(0 if ok else 1)


def _checks(recipe: str, sets: list[str], target: str) -> Iterator[Check]:
    if target and target not in DEFAULTS:
        raise FixableError(f"no target {target!r}", f"--target {' or '.join(DEFAULTS)}")
    loaded = load_any_recipe(recipe or DEFAULTS[target or "local"], sets, target)
    with session_of(loaded) as session:
        for check in TARGETS[loaded.target].doctor(session):
            yield check.named(loaded.options)


@app.command(context_settings=_HANDED_ON, epilog="Example: python -m setup demo --limit 20")
def demo(context: typer.Context) -> None:
    """Run the whole path and evaluate: hands on to python -m evaluation demo (see its --help)."""
    _hand_on("demo", context.args)


@app.command(
    context_settings=_HANDED_ON,
    epilog="Example: python -m setup run --limit 40 --yes",
)
def run(context: typer.Context) -> None:
    """In Azure: hand on to python -m evaluation run (see its --help), with a recipe for Azure."""
    default = ["--recipe", DEFAULTS["azure"]]
    chosen = any(argument.partition("=")[0] == default[0] for argument in context.args)
    _hand_on("run", [*([] if chosen else default), *context.args])


@app.command("exit", context_settings=_HANDED_ON, epilog="Example: python -m setup exit audit")
def leave(context: typer.Context) -> None:
    """Leave Prompt flow: hands audit, cutover on to python -m evaluation exit (see its --help)."""
    _hand_on("exit", context.args)


def _hand_on(command: str, arguments: list[str]) -> NoReturn:
    """End as ``python -m evaluation``, which builds on this package and is never imported by it."""
    console.err.print(f"python -m setup {command}: now python -m evaluation {command}")
    whole = [sys.executable, "-m", "evaluation", command, *arguments]
    if os.name == "posix":
        os.execv(sys.executable, whole)  # noqa: S606 - our own program, no shell
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command, which ends in order
    raise SystemExit(subprocess.run(whole, check=False).returncode)


def main() -> None:
    """Run the command; of the processes of ``torchrun`` the first one speaks for all."""
    if os.environ.get("RANK", "0") != "0":
        console.out.quiet = console.err.quiet = True
    options.run_app(app)
