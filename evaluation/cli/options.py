"""The options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from evaluation.ask.columns import OPTION

References = Annotated[
    list[str] | None,
    typer.Argument(help="Runs: NAME, NAME/CONNECTION or a folder; the newest run if none."),
]
Primary = Annotated[str, typer.Option(help="The metric that decides; else one most rows have.")]
Gates = Annotated[Path | None, typer.Option(help="A file of gates, as evaluation/gates.yaml.")]
JudgeModel = Annotated[str, typer.Option(help="Its model; Azure OpenAI: deployment.")]
JudgeRepeats = Annotated[
    int, typer.Option(min=1, max=32, help="Judge every answer, or pair, so many times.")
]
ForceJudge = Annotated[
    bool, typer.Option("--force-judge", help="Let a model judge its own answers.")
]
Evaluators = Annotated[
    list[str] | None,
    typer.Option("--evaluator", help="answers, safety, judge, evals-judge; may be repeated."),
]
General = Annotated[
    bool | None,
    typer.Option(
        help="Ask the general questions as well, which show what was forgotten; unless said, asked "
        "but where --evaluator is safety alone."
    ),
]
Reuse = Annotated[
    bool,
    typer.Option(
        help="Take the answers that earlier runs have of the same model, asked in the same way."
    ),
]
EngineName = Annotated[
    str,
    typer.Option(
        "--engine", help="auto: promptflow where it is installed; promptflow, plain, agent."
    ),
]
Workers = Annotated[
    int, typer.Option(min=0, max=256, help="Questions in flight; 0: what the endpoint takes.")
]
Mappings = Annotated[
    list[str] | None,
    typer.Option(
        OPTION,
        metavar="NAME=VALUE…",
        help="Other columns of the data than ours: question='${data.query}', or a constant, as in "
        "pf run create. Several, or repeated.",
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Ask so many rows, by --seed.")]
MaxErrorRate = Annotated[
    float, typer.Option(min=0, max=1, help="Exit 1 when a larger share of rows failed.")
]


class Spread(TyperCommand):
    """A command that takes ``--column-mapping a=1 b=2`` as ``pf`` does."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Name the option before each of its values."""
        spread: list[str] = []
        inside = False
        for word in args:
            if inside and "=" in word and not word.startswith("-"):
                if spread[-1] != OPTION:
                    spread.append(OPTION)
            else:
                inside = word == OPTION
            spread.append(word)
        return super().parse_args(ctx, spread)
