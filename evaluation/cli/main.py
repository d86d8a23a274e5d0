"""The command line: results on stdout, progress on stderr, exit 3 when a gate fails."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from evaluation.batch.watch import Interrupted
from evaluation.cli import demo, judge, run
from evaluation.cli.options import (
    Gates,
    Primary,
    References,
    exit_by,
    refuse_other_than,
)
from evaluation.gate import GATES
from evaluation.read_out import find, print_finding
from evaluation.results import find as folders
from evaluation.results.folder import RunFolder
from setup.cli.options import (
    AsJson,
    make_app,
    run_app,
    show,
    show_error,
)
from setup.common import console
from setup.common.errors import FixableError
from setup.common.paths import MAKE_ROOM, runs_folder

app = make_app(
    "Know whether it is better: evaluate endpoints, compare, report, gate.",
    "python -m evaluation run phi-base phi-tuned --limit 80",
)
for _group in (run, judge, demo):  # above the commands of this module, as people come to need them
    app.registered_commands += _group.app.registered_commands


@app.command(epilog="Example: python -m evaluation compare first/phi-base first/phi-tuned")
def compare(
    runs: References = None,
    primary: Primary = "",
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Compare two runs row by row: BASELINE CANDIDATE."""
    sides = folders.open_sides(runs or [])
    refuse_other_than(2, sides)
    print_finding(find(sides, None, primary=primary, seed=seed), as_json)


@app.command(epilog="Example: python -m evaluation report first --out report")
def report(
    runs: References = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the files; else the run's.")] = None,
    primary: Primary = "",
    gates: Gates = None,
    as_json: AsJson = False,
) -> None:
    """Write report.html, report.md and rows.csv of one run, or of BASELINE CANDIDATE."""
    sides = folders.open_sides(runs or [])
    folder = out or _report_folder(sides)
    print_finding(find(sides, folder, primary=primary, gates=gates), as_json)


@app.command(epilog="Example: python -m evaluation gate first --gates evaluation/gates.yaml")
def gate(
    runs: References = None,
    gates: Gates = None,
    as_json: AsJson = False,
) -> None:
    """Check the gates for a run, or for BASELINE CANDIDATE; exit 3 when one fails."""
    finding = find(folders.open_sides(runs or []), None, gates=gates or GATES)
    print_finding(finding, as_json, only_gates=True)
    exit_by(finding)


@app.command("list", epilog="Example: python -m evaluation list --json")
def list_runs(as_json: AsJson = False) -> None:
    """List the runs, the newest first."""
    sides = folders.list_sides()
    fixed = [Column(name, no_wrap=True, overflow="fold") for name in ("run", "started", "n", "ok")]
    table = Table(*fixed, *(Column(name, overflow="fold") for name in ("error", "score")))
    for side in sides:
        counts = side["summary"] or {}
        numbers = [str(counts[key]) for key in ("n", "ok")] if counts else ["unfinished"]
        if counts:
            numbers += [_errors(counts), folders.deciding_score(counts)]
        started = str(side["started"])[: len("2026-11-22T12:00")].replace("T", " ")
        table.add_row(side["name"], started, *numbers)
    if as_json:
        show({"runs": sides}, "", as_json)
    else:
        console.out.print(table)


def _errors(counts: dict[str, Any]) -> str:
    """The counts of rows without an answer, a score or a verdict."""
    rare = [f"{counts[name]} {name}" for name in ("unscored", "no_verdict") if counts.get(name)]
    return ", ".join([str(counts["error"]), *rare])


def _report_folder(sides: list[RunFolder]) -> Path:
    """Return where ``run`` put it; beside somebody else's folder nothing is written unasked."""
    folder = sides[-1].path.parent
    if folder.parent != runs_folder().absolute():
        raise FixableError(f"{sides[-1].path} is not in {runs_folder()}", "--out FOLDER")
    return folder


def main() -> None:
    """Run the command; a full disk is one line as well, and Ctrl-C says how a run goes on."""
    try:
        run_app(app)
    except OSError as error:
        where = error.filename or "the runs folder"
        show_error(FixableError(f"{where}: {error.strerror or error}", MAKE_ROOM))
        raise SystemExit(1) from None
    except Interrupted:
        console.err.print("interrupted; go on with: python -m evaluation run --resume")
        raise SystemExit(console.INTERRUPTED) from None
