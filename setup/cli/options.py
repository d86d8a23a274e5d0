"""The parts that all command lines share: options, how a result is printed, how they end."""

from __future__ import annotations

import atexit
import gc
import json
import sys
from typing import Annotated, Any

import typer

from setup.common import console
from setup.common.errors import FixableError
from setup.common.paths import explain_refusal
from setup.common.step import Result, S, Step

RecipeName = Annotated[str, typer.Option("--recipe", help="A file of setup/recipes, or a path.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="section.field=value; may be repeated.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="The result as JSON, one object for each step.")
]
Yes = Annotated[
    bool,
    typer.Option("--yes", help="Agree to what costs money, unasked; nothing of target local does."),
]


def make_app(text: str, example: str) -> typer.Typer:
    """A command line that says ``text`` and ``example`` in its help."""
    return typer.Typer(
        help=text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        epilog=f"Example: {example}",
    )


def run_app(app: typer.Typer) -> None:
    """Run the command; what the user can fix is one line and exit 1, Ctrl-C is exit 130."""
    atexit.register(gc.freeze)  # else Python ends by looking through all that the SDKs imported
    try:
        app()
    except (FixableError, OSError) as error:
        refusal = explain_refusal(error) if isinstance(error, OSError) else error
        if refusal is None:
            raise
        console.err.quiet = False
        show_error(refusal)
        raise SystemExit(1) from None
    except console.Stopped as stopped:
        console.err.print(f"interrupted; go on with: {stopped.command}", markup=False)
        raise
    except SystemExit as ended:
        if ended.code == console.INTERRUPTED:
            console.err.print("interrupted; run the same command again")
        raise


def perform(step: Step[S], session: S, dry_run: bool = False, as_json: bool = False) -> str:
    """Run or plan the step and print what came of it; returns the command that comes next."""
    if dry_run:
        with console.progress_bar(f"Planning {step.name}"):
            plan = step.plan(session)
        show({"step": step.name, "plan": plan}, "\n".join([f"{step.name}:", *plan]), as_json)
        return ""
    if console.err.is_terminal:
        console.err.print(f"{step.name} …")
    return show_result(step.run(session), as_json)


def show_result(result: Result, as_json: bool) -> str:
    """Print what a step did; returns the command that comes next."""
    show(result.as_dict(), result.line(), as_json)
    return result.next


def say_next(command: str, as_json: bool) -> None:
    """Print the command that comes next, if there is one."""
    if command and not as_json:
        console.err.print(f"next: {command}", markup=False)


def show(content: dict[str, Any], text: str, as_json: bool) -> None:
    """Print ``text`` for people, or ``content`` as one line of JSON."""
    console.out.print(json.dumps(content) if as_json else text, markup=False)


def show_error(error: FixableError) -> None:
    """Print what the user can fix: one line on stderr, or JSON on stdout where it was asked for."""
    error = error.named()
    if "--json" in sys.argv:
        content = {"ok": False, "error": error.what, "fix": error.fix}
        console.out.print(json.dumps(content), markup=False)
    else:
        console.err.print(f"error: {error}", markup=False)
