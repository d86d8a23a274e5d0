"""Base and tuned asked the same by the recipe's engine, and the numbers that come of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice

from rich.table import Table
from rich.text import Text

from evaluation.ask.checks import plan_run
from evaluation.ask.run import carry_out
from evaluation.first_answer import ask_once
from evaluation.read_out import Finding
from evaluation.results import Request, Row, RunFolder
from setup.common import console
from setup.common.errors import FixableError
from setup.local.connect import deployments_of
from setup.local.control import LocalEndpoint
from setup.local.rollout import rolled_out
from setup.recipe.local import Recipe

_SHOWN, _WIDEST = 8, 160
_VARIANT = "${chat.short}"  # a base model fills whatever room it gets, and that takes minutes


def run_demo(
    recipe: Recipe, recipe_name: str, sets: Sequence[str], limit: int, *, reuse: bool
) -> None:
    """Ask base and tuned one question, then evaluate both on ``limit`` rows of the test split.

    With ``reuse`` what an earlier run has asked the same model is not asked again.
    """
    names = _deployments(recipe)
    name = f"demo-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    connections = tuple(f"{recipe.connection}-{deployment}" for deployment in names)
    request = Request(
        connections=connections,
        recipe=recipe_name,
        sets=tuple(sets),
        limit=limit,
        reuse=reuse,
        variant=_VARIANT,
    )
    plans = plan_run(name, request)
    rows, engine = plans[0].data.rows, recipe.evaluation.engine
    _ask_one(next((row for row in rows if not row["chat_history"]), rows[0]), connections, engine)
    request.save(name)
    run = carry_out(plans)
    finding = Finding.of(run.sides, run.folder)
    _show_answers(finding)
    console.out.print(_losses(recipe))
    finding.print(as_json=False)
    _say_next(run.name)
    _refuse_missing(run.sides)


def _deployments(recipe: Recipe) -> list[str]:
    endpoint = recipe.endpoint
    if endpoint.tuned not in deployments_of(LocalEndpoint(recipe)):
        raise FixableError(
            f"endpoint {endpoint.name} has no deployment {endpoint.tuned}: no version is champion, "
            f"or endpoint.version is {endpoint.version}",
            "python -m setup models, and python -m setup promote NUMBER",
        )
    return [endpoint.deployment, endpoint.tuned]


def _ask_one(row: Row, connections: Sequence[str], engine: str) -> None:
    console.out.print(f"question: {row['question']}", markup=False)
    for connection in connections:
        answer = ask_once(row["question"], connection, engine)
        console.out.print(f"{connection}: {' '.join(answer.split())}", markup=False)
    console.out.print(f"ground truth: {row['ground_truth']}\n", markup=False)


def _show_answers(finding: Finding) -> None:
    tables = finding.tables
    rows = [islice(table.rows(), _SHOWN) for table in tables]
    shown = Table("row", "question", *(t.run.path.name for t in tables), "ground truth")
    shown.show_lines = True
    for number, same in enumerate(zip(*rows, strict=True)):
        answers = (row["answer"] or f"FAILED: {row['error'].text}" for row in same)
        texts = (same[0]["inputs"]["question"], *answers, same[0]["ground_truth"])
        shown.add_row(str(number), *(Text(console.shorten(text, _WIDEST)) for text in texts))
    console.out.print(shown, soft_wrap=False)


def _losses(recipe: Recipe) -> str:
    """Word the losses that the registry has of the version served, before and after training."""
    from setup.local.registry import get_version

    version = get_version(recipe.registry.model, rolled_out(LocalEndpoint(recipe)))
    return (
        f"held-out loss {version.held_out_before:.3f} -> {version.held_out_after:.3f}, "
        f"on general text {version.general_before:.3f} -> {version.general_after:.3f}\n"
    )


def _say_next(name: str) -> None:
    lines = [
        "next: make chat        chat with the tuned model in the browser",
        "      make evaluate    the whole test split",
        "      make stop        stop the endpoint",
        f"      python -m evaluation compare {name}",
    ]
    console.err.print("\n".join(lines), markup=False)


def _refuse_missing(sides: Sequence[RunFolder]) -> None:
    for side in sides:
        failed = side.summary["error"]
        if failed:
            raise FixableError(
                f"{failed} of {side.summary['n']} rows of run {side.name} have no answer",
                f"python -m evaluation run --retry-errors --name {side.path.parent.name}",
            )
