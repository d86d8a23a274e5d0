"""The command that compares two engines, the gate of a change from one to the other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evaluation.engines.parity import compare_engines
from setup.cli.options import AsJson, make_app, run_app, show
from setup.common.errors import FixableError
from setup.common.paths import REPOSITORY, runs_folder

_DATA = REPOSITORY / "data" / "sample" / "test.jsonl"
_DIFFERENCE = 3  # the exit code
app = make_app("Compare the engines that run flows.", "python -m evaluation parity")


@app.command(epilog="Example: python -m evaluation parity --connection phi-tuned --name first")
def parity(
    engines: Annotated[
        str, typer.Option(help="A,B; each NAME, or NAME@PYTHON of its environment.")
    ] = "promptflow,plain",
    data: Annotated[Path, typer.Option(exists=True, help="The questions, as JSONL.")] = _DATA,
    connection: Annotated[str, typer.Option(help="Ask this endpoint, too: A twice, B once.")] = "",
    name: Annotated[str, typer.Option(help="The result is runs/parity-NAME/.")] = "latest",
    as_json: AsJson = False,
) -> None:
    """Run the flows on two engines; exit 3 unless requests, answers, scores, errors are equal."""
    specs = engines.split(",")
    if len(specs) != 2 or {spec.partition("@")[0] for spec in specs} - {"promptflow", "plain"}:
        raise FixableError(f"--engines {engines}", "name two of: promptflow, plain")
    result = compare_engines((specs[0], specs[1]), data, connection)
    folder = runs_folder() / f"parity-{name}"
    result.write(folder)
    show(result.as_dict(), f"{result.as_markdown()}\n{folder}", as_json)
    if result.differences:
        raise typer.Exit(_DIFFERENCE)


if __name__ == "__main__":
    run_app(app)
