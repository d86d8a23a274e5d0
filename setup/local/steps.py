"""The path as a list of steps: data, finetune, register, deploy, connect."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from setup.common import console
from setup.common.checks import Check
from setup.common.errors import FixableError
from setup.common.step import Result, Step
from setup.data import Prepared, data_plan, describe_data, describe_summary, prepare_data
from setup.finetune import step as training
from setup.finetune.forecast.preview import quick_preview
from setup.local import connect, deploy, new_version
from setup.local.control import LocalEndpoint
from setup.local.doctor import run_checks
from setup.local.registry import shown_in
from setup.recipe.local import Recipe

_REJECTS_SHOWN = 5


@contextmanager
def session(recipe: Recipe, _: bool = False, /) -> Iterator[LocalEndpoint]:
    """The endpoint that a command is about; nothing here costs, so that nothing is asked."""
    with console.after_interrupt(f"an endpoint that was started goes on: {recipe.command('stop')}"):
        yield LocalEndpoint(recipe)


endpoint = LocalEndpoint  # for the commands that look at it and steer it


def doctor(session: LocalEndpoint) -> Iterator[Check]:
    """Find what would fail later, and what fine-tuning will take."""
    yield from run_checks(session)
    yield Check.of("fine-tuning", lambda: _forecast(session.recipe))


def _forecast(recipe: Recipe) -> str:
    try:
        preview = quick_preview(recipe)
    except FixableError as error:  # what lacks has a finding of its own, or comes with the run
        return f"time and memory are not predicted yet: {error.what}"
    if preview.lack:
        raise FixableError(
            f"{preview.line()}; {preview.lack}", "free memory, or a --set as it says"
        )
    return preview.line()


def _plan_data(endpoint: LocalEndpoint) -> list[str]:
    return describe_data(data_plan(endpoint.recipe))


def _data(endpoint: LocalEndpoint) -> Result:
    prepared = prepare_data(data_plan(endpoint.recipe))
    show_notes(prepared)
    if prepared.rejects:
        _show_rejects(prepared.rejects)
    show_summary(prepared, endpoint.recipe.command("inspect"))
    rejects = f"; rejected rows are in {prepared.rejects}" if prepared.rejects else ""
    detail = f"{prepared.train}, {prepared.test} ({prepared.counts}){rejects}"
    return Result("data", not prepared.already_there, detail, endpoint.recipe.command("finetune"))


def _finetune(endpoint: LocalEndpoint) -> Result:
    """Train, and show the curve in the registry meanwhile."""
    return training.run(endpoint.recipe, shown_in(endpoint.recipe.registry.model))


def show_notes(prepared: Prepared) -> None:
    """Say what was chosen, changed or left out while the data was prepared."""
    for note in prepared.notes:
        console.err.print(f"note: {note}", markup=False)


def show_summary(prepared: Prepared, inspect: str) -> None:
    """Say what the rows hold that were kept, and the command that shows more."""
    if told := describe_summary(prepared.summary):
        console.err.print(f"summary: {told}; to look at it: {inspect}", markup=False)


def _show_rejects(path: Path) -> None:
    with path.open(encoding="utf-8") as file:
        for row in map(json.loads, islice(file, _REJECTS_SHOWN)):
            line = f"rejected {row['file']}:{row['line']}: {row['reason']}"
            console.err.print(line, markup=False)


STEPS = [
    Step("data", "Prepare and check the train and test splits.", _plan_data, _data),
    Step(
        "finetune",
        training.HELP,
        lambda endpoint: training.plan(endpoint.recipe),
        _finetune,
    ),
    Step(
        "register",
        "Make the finished run a version of the model.",
        new_version.plan,
        new_version.run,
    ),
    Step(
        "deploy",
        "Serve the base model and the registered version side by side.",
        deploy.plan,
        deploy.run,
    ),
    Step("connect", "Create the connections the flows use.", connect.plan, connect.run),
]
