"""Command ``run``: ask, evaluate, compare, report; on this machine or in the Foundry project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from evaluation.ask.all_connections import Run, carry_out, plan_run
from evaluation.cli.options import (
    Evaluators,
    ForceJudge,
    Gates,
    JudgeModel,
    JudgeRepeats,
    Limit,
    Mappings,
    MaxErrorRate,
    Primary,
    Spread,
    Workers,
    exit_by,
)
from evaluation.gate import load_gates
from evaluation.metrics import known_metric
from evaluation.read_out import find, print_finding
from evaluation.results import find as folders
from evaluation.results.request import Mode, Request, go_on, save_request
from setup.azure.client.session import AzureSession
from setup.cli.options import AsJson, RecipeName, Sets, Yes, say_next, show
from setup.cli.targets import session_of
from setup.common.errors import FixableError
from setup.recipe.load import DEFAULT, load_any_recipe

app = typer.Typer()
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
    if loaded.target == "azure":
        _refuse_in_project(context)
        with session_of(loaded, yes) as session:
            _run_in_project(session, data, limit, max_error_rate, as_json)
        say_next(loaded.command("teardown"), as_json)
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
    exit_by(finding)


def _too_many_errors(done: Run, limit: float) -> FixableError | None:
    if done.failed_share <= limit:
        return None
    silent = f" (on {done.no_verdict} the judge gave no verdict)" if done.no_verdict else ""
    return FixableError(
        f"{done.failed_share:.1%} of the rows of run {done.name} failed{silent}, more than "
        f"--max-error-rate {limit:.1%}",
        f"python -m evaluation run --retry-errors --name {done.name}",
    )


def _check_names(primary: str, gates: Path | None) -> None:
    """Refuse before the first row what would be refused after the last."""
    if primary:
        known_metric(primary)
    if gates:
        load_gates(gates)


def _run_in_project(
    session: AzureSession,
    data: Path | None,
    limit: int | None,
    max_error_rate: float,
    as_json: bool,
) -> None:
    from evaluation.in_project.run import run_in_project  # noqa: PLC0415 - azure is slow to import

    done = run_in_project(session, data, limit, max_error_rate)
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
