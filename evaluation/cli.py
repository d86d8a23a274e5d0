"""The command line: results on stdout, progress on stderr, exit 3 when a gate fails."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from evaluation.ask.all_connections import Run, carry_out, plan_run
from evaluation.ask.connections import read_connection
from evaluation.ask.judge_check import PAIRWISE, check_judge
from evaluation.ask.judging import read_judge, refuse_self_judging
from evaluation.batch.watch import Interrupted
from evaluation.cli_options import (
    Evaluators,
    ForceJudge,
    Gates,
    JudgeModel,
    JudgeRepeats,
    Limit,
    Mappings,
    MaxErrorRate,
    Primary,
    References,
    Spread,
    Workers,
)
from evaluation.compare.preference import METRIC as PREFERRED
from evaluation.compare.preference import prefer
from evaluation.demo import run_demo
from evaluation.gate import GATES, load_gates
from evaluation.metrics import known_metric
from evaluation.read_out import Finding, find, print_finding
from evaluation.results import find as folders
from evaluation.results.folder import RunFolder
from evaluation.results.request import Mode, Request, go_on, save_request
from setup.cli.azure_only import in_azure
from setup.cli.options import (
    ENDPOINT_STAYS,
    INTERRUPTED,
    AsJson,
    RecipeName,
    Sets,
    Stopped,
    Yes,
    after_interrupt,
    local_options,
    make_app,
    named_as_typed,
    perform,
    run_app,
    say_next,
    show,
    show_error,
    typed_options,
)
from setup.common import console
from setup.common.errors import FixableError
from setup.common.paths import MAKE_ROOM, runs_folder
from setup.local import steps
from setup.local.doctor import require_healthy
from setup.recipe.azure import AzureRecipe
from setup.recipe.load import DEFAULT, load_any_recipe, load_recipe

app = make_app(
    "Know whether it is better: evaluate endpoints, compare, report, gate.",
    "python -m evaluation run phi-base phi-tuned --limit 80",
)
_GATE_FAILED = 3
_IN_PROJECT = {"recipe", "sets", "data", "limit", "max_error_rate", "yes", "as_json"}


@app.command(
    cls=Spread,
    epilog="Example: python -m evaluation run phi-base phi-tuned --limit 80 --name first",
)
def run(  # noqa: PLR0913, PLR0917  # the options of a command are its parameters
    context: typer.Context,
    connections: Annotated[
        list[str] | None,
        typer.Argument(help="Connections to ask, the baseline first; else base and tuned."),
    ] = None,
    recipe: RecipeName = DEFAULT,
    sets: Sets = None,
    data: Annotated[
        Path | None,
        typer.Option(help="JSONL, JSON, CSV or TSV; else the recipe's test split."),
    ] = None,
    column_mapping: Mappings = None,
    evaluators: Evaluators = None,
    limit: Limit = None,
    seed: Annotated[int, typer.Option(help="Which rows --limit draws.")] = 0,
    name: Annotated[str, typer.Option(help="The run's name; else the date and time.")] = "",
    variant: Annotated[str, typer.Option(help="Of the chat flow, as '${chat.varied}'.")] = "",
    workers: Workers = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where it stopped.")] = False,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Ask again: failed rows, and no verdicts.")
    ] = False,
    judge: Annotated[str, typer.Option(help="The judge's connection.")] = "judge",
    judge_model: JudgeModel = "",
    judge_repeats: JudgeRepeats = 1,
    force_judge: ForceJudge = False,
    max_error_rate: MaxErrorRate = 0.05,
    primary: Primary = "",
    gates: Gates = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Ask connections the rows of a test split, evaluate the answers, compare and report.

    --resume and --retry-errors go on with the run --name, else the newest, with its options. With a
    recipe for Azure, the flows in its project are asked, and their metrics printed.
    """
    loaded = load_any_recipe(recipe, sets or [])
    if isinstance(loaded, AzureRecipe):
        _refuse_in_project(context)
        with in_azure(loaded, typed_options(recipe, sets or []), yes):
            _run_in_project(loaded, data, limit, max_error_rate, as_json)
        say_next(f"python -m setup teardown {typed_options(recipe, sets or [])}", as_json)
        return
    mode: Mode = "retry" if retry_errors else "resume" if resume else "new"
    asked = _given(context)
    if data:
        asked["data"] = data.absolute()  # for going on from another folder
    name = name or (folders.new_name() if mode == "new" else folders.latest_name())
    request = Request(**asked) if mode == "new" else go_on(name, asked)
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
    judge_model: JudgeModel = "",
    judge_repeats: JudgeRepeats = 1,
    force_judge: ForceJudge = False,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Ask again where a reply was no verdict.")
    ] = False,
    max_error_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Exit 1 when more replies are no verdict.")
    ] = 0.05,
    as_json: AsJson = False,
) -> None:
    """Let a model choose between the answers of BASELINE CANDIDATE, each pair in both orders."""
    sides = folders.open_sides(runs or [])
    _refuse_other_than(2, sides)
    chosen = read_judge(connection, judge_model)
    if not force_judge:
        refuse_self_judging(chosen, [read_connection(side.config["connection"]) for side in sides])
    with console.progress_bar(f"Checking judge {chosen.model}"):
        check_judge(chosen, [PAIRWISE])
    try:
        preferences = prefer(sides[0], sides[1], chosen, judge_repeats, retry=retry_errors)
    except Interrupted:
        raise typer.Exit(INTERRUPTED) from None
    problem = None
    if preferences.unparsed_share > max_error_rate:
        again = "python -m evaluation judge --retry-errors, with the same options"
        what = f"{preferences}, more than --max-error-rate {max_error_rate:.1%}"
        problem = FixableError(what, again)
    primary = PREFERRED if preferences.decided else ""
    finding = find(sides, sides[1].path.parent, primary=primary)
    print_finding(finding, as_json, problem=problem)
    if problem:
        raise typer.Exit(1) if as_json else problem


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
    fixed = [Column(name, no_wrap=True, overflow="fold") for name in ("run", "started", "n", "ok")]
    table = Table(*fixed, *(Column(name, overflow="fold") for name in ("error", "score")))
    for side in found:
        counts = side["summary"] or {}
        numbers = [str(counts[key]) for key in ("n", "ok")] if counts else ["unfinished"]
        if counts:
            numbers += [_errors(counts), folders.deciding_score(counts)]
        started = str(side["started"])[: len("2026-11-22T12:00")].replace("T", " ")
        table.add_row(side["name"], started, *numbers)
    if as_json:
        show({"runs": found}, "", as_json)
    else:
        console.out.print(table)


def _errors(counts: dict[str, Any]) -> str:
    """The counts of rows without an answer, a score or a verdict."""
    rare = [f"{counts[name]} {name}" for name in ("unscored", "no_verdict") if counts.get(name)]
    return ", ".join([str(counts["error"]), *rare])


def _too_many_errors(done: Run, limit: float) -> FixableError | None:
    if done.failed_share <= limit:
        return None
    silent = f" (on {done.no_verdict} the judge gave no verdict)" if done.no_verdict else ""
    return FixableError(
        f"{done.failed_share:.1%} of the rows of run {done.name} failed{silent}, more than "
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


@app.command(epilog="Example: python -m evaluation demo --limit 20")
def demo(
    recipe: RecipeName = DEFAULT,
    sets: Sets = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows of the test split to ask.")] = 80,
) -> None:
    """Run the whole path, then evaluate base and tuned side by side, with a report."""
    loaded = load_recipe(recipe, sets or [])
    require_healthy(loaded)
    options = local_options(recipe, sets or [])
    with after_interrupt(ENDPOINT_STAYS), named_as_typed(loaded.name, options):
        for step in steps.STEPS:
            perform(step, loaded)
        try:
            run_demo(loaded, recipe, sets or [], limit)
        except Interrupted:
            raise Stopped("python -m evaluation run --resume") from None


def _run_in_project(
    recipe: AzureRecipe, data: Path | None, limit: int | None, max_error_rate: float, as_json: bool
) -> None:
    from evaluation.in_project.run import run_in_project  # noqa: PLC0415 - azure is slow to import

    done = run_in_project(recipe, data, limit, max_error_rate)
    show({"ok": True, "run": done.as_dict()}, done.text(), as_json)


def _refuse_in_project(context: typer.Context) -> None:
    """Options of a run on this machine decide nothing in the project."""
    for name in context.params:
        if name not in _IN_PROJECT and _is_typed(context, name):
            what = name if name == "connections" else f"--{name.replace('_', '-')}"
            raise FixableError(f"a run in the project takes no {what}", "leave it out")


def _given(context: typer.Context) -> dict[str, Any]:
    """The options of the request that the user typed; the others are as they were, or default."""
    typed = {name: value for name, value in context.params.items() if _is_typed(context, name)}
    listed = {name: tuple(v) if isinstance(v, list) else v for name, v in typed.items()}
    return {name: value for name, value in listed.items() if name in Request.model_fields}


def _is_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _refuse_other_than(count: int, sides: list[Any]) -> None:
    if len(sides) != count:
        names = ", ".join(side.name for side in sides)
        raise FixableError(f"{count} runs can be compared, not {len(sides)} ({names})", "name two")


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
        raise SystemExit(INTERRUPTED) from None
