"""Command ``judge``: a model chooses between the answers of two runs."""

from __future__ import annotations

from typing import Annotated

import typer

from evaluation.ask.connections import read_connection
from evaluation.ask.judge_check import PAIRWISE, check_judge
from evaluation.ask.judging import read_judge, refuse_self_judging
from evaluation.batch.watch import Interrupted
from evaluation.cli.options import (
    ForceJudge,
    JudgeModel,
    JudgeRepeats,
    References,
    refuse_other_than,
)
from evaluation.compare.preference import METRIC as PREFERRED
from evaluation.compare.preference import prefer
from evaluation.read_out import find, print_finding
from evaluation.results import find as folders
from setup.cli.options import (
    AsJson,
)
from setup.common import console
from setup.common.errors import FixableError

app = typer.Typer()


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
    refuse_other_than(2, sides)
    chosen = read_judge(connection, judge_model)
    if not force_judge:
        refuse_self_judging(chosen, [read_connection(side.config["connection"]) for side in sides])
    with console.progress_bar(f"Checking judge {chosen.model}"):
        check_judge(chosen, [PAIRWISE])
    try:
        preferences = prefer(sides[0], sides[1], chosen, judge_repeats, retry=retry_errors)
    except Interrupted:
        raise typer.Exit(console.INTERRUPTED) from None
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
