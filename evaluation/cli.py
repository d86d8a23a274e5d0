"""The command line: results on stdout, progress on stderr, exit 3 when a gate fails."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from evaluation import folders
from evaluation.batch.watch import Interrupted
from evaluation.compare.preference import METRIC as PREFERRED
from evaluation.compare.preference import prefer
from evaluation.finding import Finding, find, print_finding
from evaluation.gate import GATES, load_gates
from evaluation.metrics import known_metric
from evaluation.run.connections import read_connection
from evaluation.run.judging import check_judge, read_judge, refuse_self_judging
from evaluation.run.request import Mode, Request, go_on, save_request
from evaluation.run.sides import Run, carry_out, plan_run
from evaluation.runs import RunFolder
from setup import console
from setup.errors import FixableError
from setup.options import AsJson, RecipeName, Sets, show, show_error
from setup.paths import MAKE_ROOM, runs_folder
from setup.recipe import DEFAULT

app = typer.Typer(
    help="Know whether it is better: evaluate endpoints, compare, report, gate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Example: python -m evaluation run phi-base phi-tuned --limit 80",
)
_GATE_FAILED, _INTERRUPTED = 3, 130
References = Annotated[
    list[str] | None,
    typer.Argument(help="Runs: NAME, NAME/CONNECTION or a folder; the newest run if none."),
]
Primary = Annotated[str, typer.Option(help="The metric that decides; else the first there is.")]
Gates = Annotated[Path | None, typer.Option(help="A file of gates, as evaluation/gates.yaml.")]


@app.command(epilog="Example: python -m evaluation run phi-base phi-tuned --limit 80 --name first")
def run(  # noqa: PLR0913, PLR0917  # the options of a command are its parameters
    context: typer.Context,
    connections: Annotated[
        list[str] | None,
        typer.Argument(help="Connections to ask, the baseline first; else base and tuned."),
    ] = None,
    recipe: RecipeName = DEFAULT,
    sets: Sets = None,
    data: Annotated[
        Path | None, typer.Option(help="A JSONL file; else the recipe's test split.")
    ] = None,
    evaluators: Annotated[
        list[str] | None,
        typer.Option("--evaluator", help="answers, safety, judge, evals-judge; may be repeated."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Ask so many rows, by --seed.")] = None,
    seed: Annotated[int, typer.Option(help="Which rows --limit draws.")] = 0,
    name: Annotated[str, typer.Option(help="The run's name; else the date and time.")] = "",
    variant: Annotated[str, typer.Option(help="Of the chat flow, as '${chat.varied}'.")] = "",
    workers: Annotated[
        int, typer.Option(min=0, max=256, help="Questions in flight; 0: what the endpoint takes.")
    ] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where it stopped.")] = False,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Ask the failed rows of a run again.")
    ] = False,
    judge: Annotated[str, typer.Option(help="The judge's connection.")] = "judge",
    judge_model: Annotated[str, typer.Option(help="Its model; Azure OpenAI: deployment.")] = "",
    judge_repeats: Annotated[
        int, typer.Option(min=1, max=32, help="Judge every answer so many times.")
    ] = 1,
    force_judge: Annotated[
        bool, typer.Option("--force-judge", help="Let a model judge its own answers.")
    ] = False,
    max_error_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Exit 1 when a larger share of rows failed.")
    ] = 0.05,
    primary: Primary = "",
    gates: Gates = None,
    as_json: AsJson = False,
) -> None:
    """Ask connections the rows of a test split, evaluate the answers, compare and report.

    --resume and --retry-errors go on with the run --name, else the newest, with its options.
    """
    mode: Mode = "retry" if retry_errors else "resume" if resume else "new"
    given = {key: value for key, value in context.params.items() if _is_given(context, key)}
    given = {key: tuple(v) if isinstance(v, list) else v for key, v in given.items()}
    asked = {key: value for key, value in given.items() if key in Request.model_fields}
    if data:
        asked["data"] = data.absolute()  # for going on from another folder
    if mode == "new":
        name, request = name or folders.new_name(), Request(**asked)
    else:
        name = name or folders.latest_name()
        request = go_on(name, asked)
    _check_names(primary, gates)
    plans = plan_run(name, request, mode)
    if mode == "new":
        save_request(name, request)
    done = carry_out(plans, mode)
    finding = find(done.sides, done.folder, primary=primary, gates=gates)
    problem = _too_many_errors(done, max_error_rate)
    print_finding(finding, as_json, problem=problem)
    if problem:
        raise typer.Exit(1) if as_json else problem
    _exit_by(finding)


@app.command(epilog="Example: python -m evaluation compare first/phi-base first/phi-tuned")
def compare(
    runs: References = None,
    primary: Primary = "",
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Compare two runs row by row: BASELINE CANDIDATE."""
    sides = folders.open_sides(runs or [])
    _refuse_other_than(2, sides)
    print_finding(find(sides, None, primary=primary, seed=seed), as_json)


@app.command(epilog="Example: python -m evaluation judge first --judge-model gpt-4.1")
def judge(  # noqa: PLR0913, PLR0917
    runs: References = None,
    connection: Annotated[
        str, typer.Option("--judge", help="An OpenAI or Azure OpenAI connection.")
    ] = "judge",
    judge_model: Annotated[str, typer.Option(help="Its model; Azure OpenAI: deployment.")] = "",
    judge_repeats: Annotated[
        int, typer.Option(min=1, max=32, help="Judge every pair so many times.")
    ] = 1,
    force_judge: Annotated[
        bool, typer.Option("--force-judge", help="Let a model judge its own answers.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Let a model choose between the answers of BASELINE CANDIDATE, each pair in both orders."""
    sides = folders.open_sides(runs or [])
    _refuse_other_than(2, sides)
    chosen = read_judge(connection, judge_model)
    if not force_judge:
        refuse_self_judging(chosen, [read_connection(side.config["connection"]) for side in sides])
    with console.progress_bar(f"Checking judge {chosen.model}"):
        check_judge(chosen)
    try:
        prefer(sides[0], sides[1], chosen, judge_repeats)
    except Interrupted:
        console.err.print("interrupted; the same command goes on")
        raise typer.Exit(_INTERRUPTED) from None
    print_finding(find(sides, sides[1].path.parent, primary=PREFERRED), as_json)


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
    _exit_by(finding)


@app.command("list", epilog="Example: python -m evaluation list --json")
def list_runs(as_json: AsJson = False) -> None:
    """List the runs, the newest first."""
    found = folders.list_sides()
    table = Table("run", "started", "n", "ok", "error")
    for side in found:
        counts = side["summary"] or {}
        numbers = [str(counts[key]) for key in ("n", "ok", "error")] if counts else ["unfinished"]
        table.add_row(side["name"], str(side["started"]), *numbers)
    if as_json:
        show({"runs": found}, "", as_json)
    else:
        console.out.print(table)


def _too_many_errors(done: Run, limit: float) -> FixableError | None:
    if done.failed_share <= limit:
        return None
    return FixableError(
        f"{done.failed_share:.1%} of the rows of run {done.name} failed, more than "
        f"--max-error-rate {limit:.1%}",
        f"python -m evaluation run --retry-errors --name {done.name}",
    )


def _report_folder(sides: list[RunFolder]) -> Path:
    """Where ``run`` put it; beside somebody else's folder nothing is written unasked."""
    folder = sides[-1].path.parent
    if folder.parent != runs_folder().absolute():
        raise FixableError(f"{sides[-1].path} is not in {runs_folder()}", "--out FOLDER")
    return folder


def _check_names(primary: str, gates: Path | None) -> None:
    """What would be refused after the last row is refused before the first."""
    if primary:
        known_metric(primary)
    if gates:
        load_gates(gates)


def _exit_by(finding: Finding) -> None:
    if not all(result.passed for result in finding.gates):
        raise typer.Exit(_GATE_FAILED)


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _refuse_other_than(count: int, sides: list[Any]) -> None:
    if len(sides) != count:
        names = ", ".join(side.name for side in sides)
        raise FixableError(f"{count} runs can be compared, not {len(sides)} ({names})", "name two")


def main() -> None:
    """Run the command; what the user can fix is one line and exit 1, Ctrl-C is exit 130."""
    try:
        app()
    except FixableError as error:
        show_error(error)
        raise SystemExit(1) from None
    except OSError as error:
        where = error.filename or "the runs folder"
        show_error(FixableError(f"{where}: {error.strerror or error}", MAKE_ROOM))
        raise SystemExit(1) from None
    except Interrupted:
        console.err.print("interrupted; go on with: python -m evaluation run --resume")
        raise SystemExit(_INTERRUPTED) from None
