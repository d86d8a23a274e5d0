"""Base and tuned asked the same through promptflow, and the numbers that come of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from rich.table import Table
from rich.text import Text

from evaluation.ask.checks import plan_run
from evaluation.ask.run import carry_out
from evaluation.failure import Failure
from evaluation.read_out import Finding
from evaluation.results import Request, Row, RunFolder
from flows.evaluate_answers.answer_metrics.words import holds, plain
from setup.common import console
from setup.common.errors import FixableError
from setup.common.paths import REPOSITORY
from setup.local.connect import deployments_of
from setup.local.control import LocalEndpoint
from setup.recipe.local import Recipe

_GENERAL = REPOSITORY / "data" / "general" / "questions.jsonl"
_FLOW = "flows/chat"
_CONNECTION = re.compile(r"^(\s+connection: ).*$", re.MULTILINE)
_SHOWN, _WIDEST = 8, 160


def run_demo(recipe: Recipe, recipe_name: str, sets: Sequence[str], limit: int) -> None:
    """Ask base and tuned one question, then evaluate both on ``limit`` rows of the test split."""
    names = _deployments(recipe)
    name = f"demo-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    connections = tuple(f"{recipe.connection}-{deployment}" for deployment in names)
    request = Request(connections=connections, recipe=recipe_name, sets=tuple(sets), limit=limit)
    plans = plan_run(name, request)
    rows = plans[0].data.rows
    _ask_one(next((row for row in rows if not row["chat_history"]), rows[0]), connections)
    request.save(name)
    run = carry_out(plans)
    general = [_general_right(recipe, deployment) for deployment in names]
    finding = Finding.of(run.sides, run.folder)
    _show_answers(run.sides)
    _show_losses(recipe, names, general)
    finding.print(as_json=False)
    _say_next(run.name)
    _refuse_missing(run.sides)


def _deployments(recipe: Recipe) -> list[str]:
    endpoint = recipe.endpoint
    if endpoint.tuned not in deployments_of(recipe, LocalEndpoint(endpoint.name)):
        raise FixableError(
            f"endpoint {endpoint.name} has no deployment {endpoint.tuned}: no version is champion, "
            f"or endpoint.version is {endpoint.version}",
            "python -m setup models, and python -m setup promote NUMBER",
        )
    return [endpoint.deployment, endpoint.tuned]


def _ask_one(row: Row, connections: Sequence[str]) -> None:
    console.out.print(f"question: {row['question']}", markup=False)
    for connection in connections:
        answer = ask_once(row["question"], connection)
        console.out.print(f"{connection}: {' '.join(answer.split())}", markup=False)
    console.out.print(f"ground truth: {row['ground_truth']}\n", markup=False)


def _general_right(recipe: Recipe, name: str) -> int:
    """Count how many of the general questions the deployment still answers."""
    endpoint = LocalEndpoint(recipe.endpoint.name)
    parameters = {"temperature": 0, "max_new_tokens": 64}

    def is_right(row: Row) -> bool:
        reply = endpoint.score(row["question"], name, parameters, recipe.endpoint.request_timeout)
        answer = plain(str(reply["output"]))
        return any(holds(answer, expected) for expected in row["expected"])

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


def _show_answers(sides: Sequence[RunFolder]) -> None:
    rows = [_first_rows(side) for side in sides]
    table = Table("row", "question", *(side.path.name for side in sides), "ground truth")
    table.show_lines = True
    for number, same in enumerate(zip(*rows, strict=True)):
        failures = [Failure.from_dict(row["error"]) for row in same]
        pairs = zip(same, failures, strict=True)
        answers = (row["answer"] or f"FAILED: {failure and failure.text}" for row, failure in pairs)
        texts = (same[0]["inputs"]["question"], *answers, same[0]["ground_truth"])
        table.add_row(str(number), *(Text(console.shorten(text, _WIDEST)) for text in texts))
    console.out.print(table, soft_wrap=False)


def _first_rows(side: RunFolder) -> list[Row]:
    with side.rows_path.open(encoding="utf-8") as file:
        return [json.loads(line) for line, _ in zip(file, range(_SHOWN), strict=False)]


def _show_losses(recipe: Recipe, names: Sequence[str], general: Sequence[int]) -> None:
    """Print what the registry measured of the version served, and what no row of the split asks."""
    from setup.local.registry import get_version  # noqa: PLC0415
    from setup.local.rollout import rolled_out  # noqa: PLC0415

    number = rolled_out(LocalEndpoint(recipe.endpoint.name))
    version = get_version(recipe.registry.model, number)
    losses = {
        "held-out loss": (version.held_out_before, version.held_out_after),
        "loss on general text": (version.general_before, version.general_after),
    }
    table = Table("", *names)
    for label, values in losses.items():
        table.add_row(label, *(f"{value:.3f}" for value in values))
    asked = len(_general_questions())
    table.add_row("general questions", *(f"{right} of {asked}" for right in general))
    console.out.print(table)


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


def ask_once(question: str, connection: str) -> str:
    """The answer of ``pf flow test`` through ``connection``.

    `pf flow test` knows no other connection than the one the flow names, so a copy of the flow
    that names this one is tested.
    """
    with tempfile.TemporaryDirectory() as folder:
        flow = Path(shutil.copytree(REPOSITORY / _FLOW, Path(folder) / "chat"))
        graph = flow / "flow.dag.yaml"
        text = graph.read_text(encoding="utf-8")
        graph.write_text(_CONNECTION.sub(rf"\g<1>{connection}", text), encoding="utf-8")
        with console.progress_bar(f"pf flow test, connection {connection}"):
            # pf of the Python that runs this, whether or not its folder is on PATH.
            pf = [sys.executable, "-m", "promptflow._cli.pf", "flow", "test"]
            done = subprocess.run(
                [*pf, "--flow", str(flow), "--inputs", f"question={question}"],
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                cwd=REPOSITORY,
                check=False,
            )
    answer = re.search(r'"answer": (".*")', done.stdout)
    if done.returncode != 0 or not answer:
        raise FixableError(f"pf flow test failed: {_last_line(done)}", "python -m setup doctor")
    return str(json.loads(answer[1]))


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"
