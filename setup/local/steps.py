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
from setup.common.paths import without_home
from setup.common.promptflow_store import keyring_name
from setup.common.step import Result, Step
from setup.data import Prepared, describe_data, prepare_data, prepared_split
from setup.data.plan import data_plan
from setup.finetune import steps as training
from setup.finetune.run.run import finished, run_folder
from setup.local.connect import connect, connection_values, deployments_of, plan_connect
from setup.local.control import LocalEndpoint
from setup.local.deploy import deploy, plan_deploy
from setup.local.doctor import run_checks
from setup.local.rollout import rolled_out
from setup.recipe.local import Recipe
from setup.weights.fetch import model_sha256, prepare_model

_REJECTS_SHOWN = 5


@contextmanager
def session(recipe: Recipe, _: bool = False, /) -> Iterator[LocalEndpoint]:
    """The endpoint that a command is about; nothing here costs, so that nothing is asked."""
    with console.after_interrupt("an endpoint that was started goes on: python -m setup stop"):
        yield LocalEndpoint(recipe)


def doctor(session: LocalEndpoint) -> Iterator[Check]:
    """Find what would fail later."""
    return run_checks(session)


def _plan_data(endpoint: LocalEndpoint) -> list[str]:
    return describe_data(data_plan(endpoint.recipe))


def _data(endpoint: LocalEndpoint) -> Result:
    prepared = prepare_data(data_plan(endpoint.recipe))
    show_notes(prepared)
    if prepared.rejects:
        _show_rejects(prepared.rejects)
    rejects = f"; rejected rows are in {prepared.rejects}" if prepared.rejects else ""
    detail = f"{prepared.train}, {prepared.test} ({prepared.counts}){rejects}"
    return Result("data", not prepared.already_there, detail, "python -m setup finetune")


def show_notes(prepared: Prepared) -> None:
    """Say what was chosen, changed or left out while the data was prepared."""
    for note in prepared.notes:
        console.err.print(f"note: {note}", markup=False)


def _show_rejects(path: Path) -> None:
    with path.open(encoding="utf-8") as file:
        for row in map(json.loads, islice(file, _REJECTS_SHOWN)):
            line = f"rejected {row['file']}:{row['line']}: {row['reason']}"
            console.err.print(line, markup=False)


def _plan_register(endpoint: LocalEndpoint) -> list[str]:
    return [f"the finished run as a version of {endpoint.recipe.registry.model}"]


def _register(endpoint: LocalEndpoint) -> Result:
    from setup.local.registry import NOT_COMPARABLE, list_versions, register_finetune  # noqa: PLC0415

    recipe = endpoint.recipe
    split = prepared_split(data_plan(recipe), "train", then=", then python -m setup finetune")
    path = prepare_model(recipe.model)
    folder, fingerprint = run_folder(recipe, model_sha256(path), split.file)
    if not finished(folder):
        raise FixableError(f"no finished run in {folder}", "python -m setup finetune")
    known = {version.fingerprint for version in list_versions(recipe.registry.model)}
    with console.progress_bar("Registering the run"):
        version = register_finetune(recipe.registry.model, folder)
    champion = "the champion" if version.champion else "not the champion"
    detail = f"version {version.number} of {version.model} is {champion} ({version.note})"
    detail += f"; trained on {split.source}"
    undecided = not version.champion and version.note.startswith(NOT_COMPARABLE)
    following = f"promote {version.number}" if undecided else "deploy"
    return Result("register", fingerprint not in known, detail, f"python -m setup {following}")


def _deploy(endpoint: LocalEndpoint) -> Result:
    changed = deploy(endpoint)
    recipe, rows = endpoint.recipe, deployments_of(endpoint)
    name, tuned = recipe.endpoint.deployment, recipe.endpoint.tuned
    detail = f"deployment {name} of endpoint {endpoint.name} is healthy at {endpoint.url}"
    detail += f" and takes {rows[name]['traffic']} % of the traffic"
    number = rolled_out(endpoint)
    if number and tuned in rows:
        detail += f"; {tuned} is version {number} and takes {rows[tuned]['traffic']} %"
        detail += _trained_on(recipe, number)
    return Result("deploy", changed, detail, "python -m setup connect")


def _trained_on(recipe: Recipe, number: str) -> str:
    """Name the data of the version that is served, and of which the recipe speaks where it differs.

    Versions of before do not say theirs.
    """
    from setup.local.registry import list_versions  # noqa: PLC0415 - mlflow, where it must be read

    versions = list_versions(recipe.registry.model)
    source = next((v.data_source for v in versions if str(v.number) == number), "")
    if not source or source == without_home(recipe.data.source):
        return f", trained on {source}" if source else ""
    return f", trained on {source}, not on data.source {recipe.data.source}"


def _connect(endpoint: LocalEndpoint) -> Result:
    changed = connect(endpoint)
    *others, last = connection_values(endpoint)
    detail = f"connections {', '.join(others)} and {last} reach endpoint {endpoint.name}"
    question = "What is the capital of France?"
    command = f'pf flow test --flow flows/chat --inputs question="{question}"'
    return Result("connect", changed, f"{detail}, its key kept by {keyring_name()}", command)


STEPS = [
    Step("data", "Prepare and check the train and test splits.", _plan_data, _data),
    Step(
        "finetune",
        training.HELP,
        lambda endpoint: training.plan(endpoint.recipe),
        lambda endpoint: training.run(endpoint.recipe),
    ),
    Step("register", "Make the finished run a version of the model.", _plan_register, _register),
    Step(
        "deploy",
        "Serve the base model and the registered version side by side.",
        plan_deploy,
        _deploy,
    ),
    Step("connect", "Create the connections the flows use.", plan_connect, _connect),
]
