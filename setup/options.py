"""Options that mean the same in every command, and how a result is printed."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from setup import console
from setup.errors import FixableError

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


def show(content: dict[str, Any], text: str, as_json: bool) -> None:
    """Print ``text`` for people, or ``content`` as one line of JSON."""
    console.out.print(json.dumps(content) if as_json else text, markup=False)


def show_error(error: FixableError) -> None:
    """Print what the user can fix: one line on stderr, or JSON on stdout where it was asked for."""
    if "--json" in sys.argv:
        content = {"ok": False, "error": error.what, "fix": error.fix}
        console.out.print(json.dumps(content), markup=False)
    else:
        console.err.print(f"error: {error}", markup=False)
