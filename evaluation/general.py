"""The price of fine-tuning: what the tuned model still knows of what no row of the split asks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from rich.table import Table

from evaluation.results import Row
from flows.evaluate_answers.answer_metrics.words import holds, plain
from setup.common import console
from setup.common.paths import REPOSITORY
from setup.local.control import LocalEndpoint
from setup.recipe.local import Recipe

_GENERAL = REPOSITORY / "data" / "general" / "questions.jsonl"


def measure(recipe: Recipe, names: Sequence[str]) -> Table:
    """The losses that the registry has of the version served, and the general questions answered.

    ``names`` are the deployments of base and tuned.
    """
    from setup.local.registry import get_version  # noqa: PLC0415
    from setup.local.rollout import rolled_out  # noqa: PLC0415

    number = rolled_out(LocalEndpoint(recipe))
    version = get_version(recipe.registry.model, number)
    losses = {
        "held-out loss": (version.held_out_before, version.held_out_after),
        "loss on general text": (version.general_before, version.general_after),
    }
    table = Table("", *names)
    for label, values in losses.items():
        table.add_row(label, *(f"{value:.3f}" for value in values))
    asked = len(_questions())
    right = (f"{_right(recipe, deployment)} of {asked}" for deployment in names)
    table.add_row("general questions", *right)
    return table


def _right(recipe: Recipe, name: str) -> int:
    """Count how many of the general questions the deployment still answers."""
    endpoint = LocalEndpoint(recipe)
    parameters = {"temperature": 0, "max_new_tokens": 64}

    def is_right(row: Row) -> bool:
        reply = endpoint.score(row["question"], name, parameters, recipe.endpoint.request_timeout)
        answer = plain(str(reply["output"]))
        return any(holds(answer, expected) for expected in row["expected"])

    questions = _questions()
    label = f"General questions, deployment {name}"
    with (
        console.progress_bar(label, len(questions)) as bar,
        ThreadPoolExecutor(recipe.endpoint.slots) as pool,
    ):
        right = 0
        for done, is_one in enumerate(pool.map(is_right, questions), start=1):
            right += is_one
            bar.update(console.TASK, completed=done)
    return right


def _questions() -> list[Row]:
    return [json.loads(line) for line in _GENERAL.read_text(encoding="utf-8").splitlines()]
