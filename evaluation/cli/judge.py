"""Command ``judge``: a model chooses between the answers of two runs."""

from __future__ import annotations

from typing import Annotated

import typer

from evaluation import results
from evaluation.ask.connections import KnownConnection
from evaluation.ask.judge import PAIRWISE, JudgeConnection
from evaluation.ask.pairwise import prefer
from evaluation.ask.watch import Interrupted
from evaluation.cli import options
from evaluation.compare.table import read_table
from evaluation.engines.choice import choose_engine
from evaluation.read_out import Finding
from setup.cli import options as shared
from setup.common import console
from setup.common.errors import FixableError

app = typer.Typer()


@app.command(epilog="Example: python -m evaluation judge first --judge-model gpt-4.1")
def judge(  # noqa: PLR0913, PLR0917
    runs: options.References = None,
    connection: Annotated[
        str, typer.Option("--judge", help="An OpenAI or Azure OpenAI connection.")
    ] = "judge",
    judge_model: options.JudgeModel = "",
    judge_repeats: options.JudgeRepeats = 1,
    force_judge: options.ForceJudge = False,
    engine: options.EngineName = "auto",
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Ask again where a reply was no verdict.")
    ] = False,
    max_error_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Exit 1 when more replies are no verdict.")
    ] = 0.05,
    as_json: shared.AsJson = False,
) -> None:
    """Let a model choose between the answers of BASELINE CANDIDATE, each pair in both orders."""
    sides = results.open_sides(runs or [], 2)
    chosen = JudgeConnection.read(connection, judge_model, choose_engine(engine))
    if not force_judge:
        tested = [KnownConnection.read(side.config["connection"], chosen.engine) for side in sides]
        chosen.refuse_own_answers(tested)
    with console.progress_bar(f"Checking judge {chosen.model}"):
        chosen.check([PAIRWISE])
    try:
        preferences = prefer(
            [read_table(side) for side in sides], chosen, judge_repeats, retry=retry_errors
        )
    except Interrupted:
        raise typer.Exit(console.INTERRUPTED) from None
    problem = None
    if preferences.unparsed_share > max_error_rate:
        again = "python -m evaluation judge --retry-errors, with the same options"
        what = f"{preferences}, more than --max-error-rate {max_error_rate:.1%}"
        problem = FixableError(what, again)
    primary = preferences.primary
    finding = Finding.of(sides, sides[1].path.parent, primary=primary)
    finding.print(as_json, problem=problem)
