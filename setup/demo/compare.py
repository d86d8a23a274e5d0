"""Base and tuned asked the same through the real ``pf``, and the numbers that come of it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from setup import console
from setup.demo.prompt_flow import ask_once, run_batch
from setup.demo.scores import Row, declines, fact_recall, holds
from setup.errors import FixableError
from setup.local.connect import deployments_of
from setup.local.control import LocalEndpoint
from setup.paths import REPOSITORY
from setup.recipe import Recipe

_GENERAL = REPOSITORY / "data" / "general" / "questions.jsonl"
_SHOWN, _WIDEST = 8, 160


@dataclass(frozen=True)
class Side:
    """One deployment and what it answered; ``run`` is the name of its ``pf`` run."""

    deployment: str
    run: str
    answers: dict[int, str]
    general_right: int


def run_demo(recipe: Recipe, test_split: Path, limit: int) -> None:
    """Ask base and tuned the first question and the first ``limit`` rows of ``test_split``.

    Raises:
        FixableError: No tuned deployment, a ``pf`` command failed, or a line has no answer.
    """
    given = recipe.endpoint
    names = [given.deployment, given.tuned]
    if given.tuned not in deployments_of(recipe, LocalEndpoint(given.name)):
        raise FixableError(
            f"endpoint {given.name} has no deployment {given.tuned}: no version is champion, or "
            f"endpoint.version is {given.version}",
            "python -m setup models, and python -m setup promote NUMBER",
        )
    losses = _losses(recipe)
    with test_split.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in islice(file, limit)]
    alone = next((row for row in rows if not row["chat_history"]), rows[0])
    _ask_one(recipe, alone, names)
    started = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    sides = [_ask_all(recipe, rows, name, f"chat-{name}-{started}") for name in names]
    _show_answers(rows, sides)
    _show_numbers(losses, rows, sides)
    _say_next(sides)
    _refuse_missing(rows, sides)


def _ask_one(recipe: Recipe, row: Row, names: list[str]) -> None:
    console.out.print(f"question: {row['question']}", markup=False)
    for name in names:
        answer = ask_once(row["question"], f"{recipe.connection}-{name}")
        console.out.print(f"{name}: {' '.join(answer.split())}", markup=False)
    console.out.print(f"ground truth: {row['ground_truth']}\n", markup=False)


def _ask_all(recipe: Recipe, rows: list[Row], name: str, run: str) -> Side:
    answers = run_batch(run, rows, f"{recipe.connection}-{name}")
    return Side(name, run, answers, _general_right(recipe, name))


def _general_right(recipe: Recipe, name: str) -> int:
    """How many of the general questions the deployment still answers."""
    endpoint = LocalEndpoint(recipe.endpoint.name)
    parameters = {"temperature": 0, "max_new_tokens": 64}

    def is_right(row: Row) -> bool:
        reply = endpoint.score(row["question"], name, parameters, recipe.endpoint.request_timeout)
        return any(holds(str(reply["output"]), expected) for expected in row["expected"])

    questions = _general_questions()
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


def _general_questions() -> list[Row]:
    return [json.loads(line) for line in _GENERAL.read_text(encoding="utf-8").splitlines()]


def _show_answers(rows: list[Row], sides: Sequence[Side]) -> None:
    table = Table("line", "question", *(side.deployment for side in sides), "ground truth")
    table.show_lines = True
    for number, row in enumerate(rows[:_SHOWN]):
        answers = (side.answers.get(number, "FAILED: no answer") for side in sides)
        cells = (_shorten(text) for text in (row["question"], *answers, row["ground_truth"]))
        table.add_row(str(number), *cells)
    console.out.print(table, soft_wrap=False)


def _shorten(text: str) -> Text:
    """``text`` as one paragraph that leaves room for the other rows, markup left alone."""
    joined = " ".join(text.split())
    return Text(joined if len(joined) <= _WIDEST else f"{joined[: _WIDEST - 1]}…")


def _show_numbers(
    losses: list[tuple[str, str, str]], rows: list[Row], sides: Sequence[Side]
) -> None:
    table = Table("", *(side.deployment for side in sides))
    for label, *values in losses:
        table.add_row(label, *values)
    recalls = [fact_recall(rows, side.answers) for side in sides]
    if recalls[0][1]:
        label = f"fact recall, {recalls[0][1]} test rows"
        table.add_row(label, *(f"{share:.2f}" for share, _ in recalls))
    declined = [declines(rows, side.answers) for side in sides]
    if declined[0][1]:
        table.add_row("declined where it must", *(f"{n} of {due}" for n, due in declined))
    asked = len(_general_questions())
    table.add_row("general questions", *(f"{side.general_right} of {asked}" for side in sides))
    console.out.print(table)
    for side in sides:
        ok = len(side.answers)
        console.out.print(f"{side.deployment}: n={len(rows)} ok={ok} error={len(rows) - ok}")


def _losses(recipe: Recipe) -> list[tuple[str, str, str]]:
    """Of the version that is served, as the registry knows it."""
    from setup.local.registry import get_version  # noqa: PLC0415
    from setup.local.rollout import rolled_out  # noqa: PLC0415

    number = rolled_out(LocalEndpoint(recipe.endpoint.name))
    version = get_version(recipe.registry.model, number)
    pairs: dict[str, tuple[Any, Any]] = {
        "held-out loss": (version.held_out_before, version.held_out_after),
        "loss on general text": (version.general_before, version.general_after),
    }
    return [(label, f"{before:.3f}", f"{after:.3f}") for label, (before, after) in pairs.items()]


def _say_next(sides: Sequence[Side]) -> None:
    folder = "" if shutil.which("pf") else f"{Path(sys.executable).parent}{os.sep}"
    console.err.print("next: make chat        chat with the tuned model in the browser")
    console.err.print("      make stop        stop the endpoint")
    for side in sides:
        console.err.print(f"      {folder}pf run show-details --name {side.run}")


def _refuse_missing(rows: list[Row], sides: Sequence[Side]) -> None:
    for side in sides:
        missing = len(rows) - len(side.answers)
        if missing:
            raise FixableError(
                f"{missing} of {len(rows)} lines of run {side.run} have no answer",
                f"pf run show-details --name {side.run}",
            )
