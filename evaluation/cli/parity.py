"""The command that compares two engines, the gate of a change from one to the other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evaluation.engines.parity import compare_engines
from setup.cli.options import AsJson, show
from setup.common.errors import FixableError
from setup.common.paths import REPOSITORY, runs_folder

_DATA = REPOSITORY / "data" / "sample" / "test.jsonl"
_ENGINES = ("promptflow", "plain", "agent")
_DIFFERENCE = 3  # the exit code
app = typer.Typer()


@app.command(epilog="Example: python -m evaluation parity --connection phi-tuned --name first")
def parity(
    engines: Annotated[
        str, typer.Option(help="A,B[,C]; each NAME, or NAME@PYTHON of its environment.")
    ] = "promptflow,plain",
    data: Annotated[Path, typer.Option(exists=True, help="The questions, as JSONL.")] = _DATA,
    connection: Annotated[str, typer.Option(help="Ask this endpoint, too: A twice, B once.")] = "",
    name: Annotated[str, typer.Option(help="The result is runs/parity-NAME/.")] = "latest",
    as_json: AsJson = False,
) -> None:
    """Run the flows on several engines; exit 3 unless requests, answers, scores, errors agree."""
    specs = engines.split(",")
    known = [spec.partition("@")[0] in _ENGINES for spec in specs]
    if len(specs) < 2 or not all(known) or specs[0].startswith("agent"):
        fix = f"name two or more of: {', '.join(_ENGINES)}; agent not as the first"
        raise FixableError(f"--engines {engines}", fix)
    result = compare_engines(specs, data, connection)
    folder = runs_folder() / f"parity-{name}"
    result.write(folder)
    show(result.as_dict(), f"{result.as_markdown()}\n{folder}", as_json)
    if result.differences:
        raise typer.Exit(_DIFFERENCE)
