"""Command ``run``: ask, evaluate, compare, report; on this machine or in the Foundry project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from evaluation import results
from evaluation.ask.checks import plan_run
from evaluation.ask.run import carry_out
from evaluation.cli import options
from evaluation.read_out import Finding
from setup.cli import options as shared
from setup.cli.targets import session_of
from setup.common.errors import FixableError
from setup.recipe.load import DEFAULT, load_any_recipe

app = typer.Typer()
_IN_PROJECT = {"recipe", "sets", "data", "limit", "max_error_rate", "yes", "as_json"}
_IN_PIPELINE = {*_IN_PROJECT, "nodes", "seed", "name", "column_mapping", "primary", "gates"}
_IN_PIPELINE |= {"retry_errors"}


@app.command(
    cls=options.Spread,
    epilog="Example: python -m evaluation run phi-base phi-tuned --limit 80 --name first",
)
def run(  # noqa: PLR0913, PLR0917  # the options of a command are its parameters
    context: typer.Context,
    connections: Annotated[
        list[str] | None,
        typer.Argument(help="Connections to ask, the baseline first; else base and tuned."),
    ] = None,
    recipe: shared.RecipeName = DEFAULT,
    sets: shared.Sets = None,
    data: Annotated[
        Path | None,
        typer.Option(help="JSONL, JSON, CSV or TSV; else the recipe's test split."),
    ] = None,
    column_mapping: options.Mappings = None,
    evaluators: options.Evaluators = None,
    limit: options.Limit = None,
    seed: Annotated[int, typer.Option(help="Which rows --limit draws.")] = 0,
    name: Annotated[str, typer.Option(help="The run's name; else the date and time.")] = "",
    variant: Annotated[str, typer.Option(help="Of the chat flow, as '${chat.varied}'.")] = "",
    workers: options.Workers = 0,
    engine: options.EngineName = "",
    processes: Annotated[
        int, typer.Option(min=1, max=64, help="Of engine plain, where one core is too few.")
    ] = 1,
    nodes: Annotated[
        int,
        typer.Option(
            min=0,
            max=100,
            help="In Azure: as a pipeline over so many machines.",
        ),
    ] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where it stopped.")] = False,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Ask again: failed rows, and no verdicts.")
    ] = False,
    general: options.General = None,
    reuse: options.Reuse = False,
    judge: Annotated[str, typer.Option(help="The judge's connection.")] = "judge",
    judge_model: options.JudgeModel = "",
    judge_repeats: options.JudgeRepeats = 1,
    force_judge: options.ForceJudge = False,
    max_error_rate: options.MaxErrorRate = 0.05,
    primary: options.Primary = "",
    gates: options.Gates = None,
    yes: shared.Yes = False,
    as_json: shared.AsJson = False,
) -> None:
    """Ask connections the rows of a test split, evaluate the answers, compare and report.

    --resume and --retry-errors go on with the run --name, else the newest, with its options. With a
    recipe for Azure, the flows in its project are asked, and their metrics printed; with --nodes
    as well, a pipeline asks and scores over so many machines: the same command follows the job.
    """
    loaded = load_any_recipe(recipe, sets or [])
    if loaded.target == "azure" and nodes:
        _run_as_pipeline(context, loaded)
    elif loaded.target == "azure":
        _run_in_project(context, loaded)
    elif nodes:
        what = f"--nodes is for a recipe of target azure, and {loaded.name} is of {loaded.target}"
        raise FixableError(what, "--recipe phi-azure, or --workers for more in flight here")
    else:
        _run_here(context, primary, gates, max_error_rate)


def _run_here(
    context: typer.Context, primary: str, gates: Path | None, max_error_rate: float
) -> None:
    given = context.params
    mode: results.Mode = "new"
    if given["resume"] or given["retry_errors"]:
        mode = "retry" if given["retry_errors"] else "resume"
    asked = _typed_request(context)
    if given["data"]:
        asked["data"] = Path(given["data"]).absolute()  # for going on from another folder
    is_new = mode == "new"
    name = given["name"] or (results.new_name() if is_new else results.latest_name())
    request = results.Request(**asked) if is_new else results.Request.load(name, asked)
    Finding.check_names(primary, gates)
    plans = plan_run(name, request, mode)
    if is_new:
        request.save(name)
    done = carry_out(plans, mode)
    finding = Finding.of(done.sides, done.folder, primary=primary, gates=gates)
    finding.print(given["as_json"], problem=done.too_many_failed(max_error_rate))
    finding.exit_by_gates()


def _run_in_project(context: typer.Context, recipe: Any) -> None:
    from evaluation.in_project.run import run_in_project

    given = context.params
    _refuse_others(context, _IN_PROJECT, "a run in the project")
    with session_of(recipe, given["yes"]) as session:
        data = Path(given["data"]) if given["data"] else None
        done = run_in_project(session, data, given["limit"], given["max_error_rate"])
        shared.show({"ok": True, "run": done.as_dict()}, done.text(), given["as_json"])
    shared.say_next(recipe.command("teardown"), given["as_json"])


def _run_as_pipeline(context: typer.Context, recipe: Any) -> None:
    from evaluation.in_project.pipeline_run import run_as_pipeline

    given = context.params
    _refuse_others(context, _IN_PIPELINE, "a pipeline")
    Finding.check_names(given["primary"], given["gates"])
    if given["name"]:
        results.check_name(given["name"])
    request, again = results.Request(**_typed_request(context)), given["retry_errors"]
    with session_of(recipe, given["yes"]) as session:
        side = run_as_pipeline(session, request, given["nodes"], given["name"], again)
    names = {"primary": given["primary"], "gates": given["gates"]}
    finding = Finding.of([side], side.path.parent, **names)
    finding.print(given["as_json"], problem=_too_many_failed(side, given["max_error_rate"]))
    shared.say_next(recipe.command("teardown"), given["as_json"])
    finding.exit_by_gates()


def _too_many_failed(side: results.RunFolder, limit: float) -> FixableError | None:
    counts = side.summary
    failed = int(counts["error"]) + int(counts["unscored"])
    if failed <= limit * int(counts["n"]):
        return None
    what = f"n={counts['n']} ok={counts['ok']} error={counts['error']}: {failed / counts['n']:.1%} "
    what += f"of the rows of run {side.name} failed, more than --max-error-rate {limit:.1%}"
    fix = f"see {side.config['link']}: the log of its steps says why; the same command with "
    return FixableError(what, f"{fix}--retry-errors asks all rows again, in a new job")


def _refuse_others(context: typer.Context, allowed: set[str], where: str) -> None:
    """Refuse options of a run on this machine, which decide nothing in Azure."""
    for name in context.params:
        if name not in allowed and _is_typed(context, name):
            what = name if name == "connections" else f"--{name.replace('_', '-')}"
            raise FixableError(f"{where} takes no {what}", "leave it out")


def _typed_request(context: typer.Context) -> dict[str, Any]:
    """The options of the request that the user typed; the others are as they were, or default."""
    typed = {name: value for name, value in context.params.items() if _is_typed(context, name)}
    listed = {name: tuple(v) if isinstance(v, list) else v for name, v in typed.items()}
    return {n: value for n, value in listed.items() if n in results.Request.model_fields}


def _is_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
