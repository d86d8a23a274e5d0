"""The command line: results on stdout, progress on stderr, exit 3 when a gate fails."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from evaluation import results
from evaluation.cli import demo, engines, judge, options, run
from evaluation.gate import GATES
from evaluation.read_out import Finding, list_cells
from setup.cli import options as shared
from setup.common import console
from setup.common.errors import FixableError
from setup.common.paths import runs_folder

app = shared.make_app(
    "Know whether it is better: evaluate endpoints, compare, report, gate.",
    "python -m evaluation run phi-base phi-tuned --limit 80",
)
# Above the commands of this module, as people come to need them.
for _group in (run, judge, demo, engines):
    app.registered_commands += _group.app.registered_commands


@app.command(epilog="Example: python -m evaluation compare first/phi-base first/phi-tuned")
def compare(
    runs: options.References = None,
    primary: options.Primary = "",
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    as_json: shared.AsJson = False,
) -> None:
    """Compare two runs row by row: BASELINE CANDIDATE."""
    sides = results.open_sides(runs or [], 2)
    Finding.of(sides, primary=primary, seed=seed).print(as_json)


@app.command(epilog="Example: python -m evaluation report first --out report")
def report(
    runs: options.References = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the files; else the run's.")] = None,
    primary: options.Primary = "",
    gates: options.Gates = None,
    as_json: shared.AsJson = False,
) -> None:
    """Write report.html, report.md and rows.csv of one run, or of BASELINE CANDIDATE."""
    sides = results.open_sides(runs or [])
    folder = out or sides[-1].path.parent
    if not out and folder.parent != runs_folder().absolute():
        # Beside somebody else's folder nothing is written unasked.
        raise FixableError(f"{sides[-1].path} is not in {runs_folder()}", "--out FOLDER")
    Finding.of(sides, folder, primary=primary, gates=gates).print(as_json)


@app.command(epilog="Example: python -m evaluation gate first --gates evaluation/gates.yaml")
def gate(
    runs: options.References = None,
    gates: options.Gates = None,
    as_json: shared.AsJson = False,
) -> None:
    """Check the gates for a run, or for BASELINE CANDIDATE; exit 3 when one fails."""
    finding = Finding.of(results.open_sides(runs or []), gates=gates or GATES)
    finding.print(as_json, only_gates=True)
    finding.exit_by_gates()


@app.command("list", epilog="Example: python -m evaluation list --json")
def list_runs(as_json: shared.AsJson = False) -> None:
    """List the runs, the newest first."""
    sides = results.list_sides()
    fixed = [Column(name, no_wrap=True, overflow="fold") for name in ("run", "started", "n", "ok")]
    table = Table(*fixed, *(Column(name, overflow="fold") for name in ("error", "score")))
    for side in sides:
        started = str(side["started"])[: len("2026-11-22T12:00")].replace("T", " ")
        table.add_row(side["name"], started, *list_cells(side["summary"]))
    if as_json:
        shared.show({"runs": sides}, "", as_json)
    else:
        console.out.print(table)
