"""The step ``finetune`` in Azure: one job per data, model and settings, found again by its name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from setup.azure.client.money import finetune_costs
from setup.azure.client.session import AzureSession
from setup.azure.data.step import DataAsset, data_assets, train_split
from setup.azure.finetune import submission
from setup.azure.finetune.attempts import Attempt, job_name, last_attempt
from setup.azure.finetune.follow import Follower
from setup.azure.finetune.job_history import History
from setup.azure.finetune.why_failed import explain_failure
from setup.common import console
from setup.common.errors import FixableError
from setup.common.step import Result
from setup.data.plan import data_plan


def plan(session: AzureSession) -> list[str]:
    """List what ``run`` would do; checks the inputs of the component, asks for no money."""
    recipe = session.recipe
    finetune = recipe.finetune
    what = (
        f"fine-tune {recipe.model.name} with {finetune.component} {finetune.component_version}"
        if finetune.route == "catalog"
        else f"fine-tune {recipe.model.file or recipe.model.name} with our own trainer"
    )
    if not data_plan(recipe).paths.train.is_file():
        return [what, finetune_costs(recipe).line()]
    try:
        split = train_split(recipe)
    except FixableError as error:
        return [what, f"but first: {error}", finetune_costs(recipe).line()]
    what += f" on {split.source}"
    with data_assets(recipe, split.file) as assets:
        last = last_attempt(session, assets)
        if last and last.completed:
            return [f"{what}: job {last.job} is completed"]
        if last and not last.over:
            return [f"{what}: follow job {last.job}, {last.status}"]
        if finetune.route == "catalog":
            submission.catalog_inputs(session, assets)
        name = job_name(recipe, assets, last.number + 1 if last else 1)
    return [f"{what}, as job {name}", finetune_costs(recipe).line()]


def run(session: AzureSession) -> Result:
    """Submit the job and follow it until it has completed, or find it.

    Raises:
        FixableError: No data, inputs that the component does not take, no agreement to the cost,
            a refusal of Azure, or a job that failed.
        KeyboardInterrupt: After Ctrl-C; the job goes on.
    """
    recipe = session.recipe
    following = recipe.command("register")
    with _assets(session) as assets:
        last = last_attempt(session, assets)
        if last and last.completed:
            return Result("finetune", False, f"job {last.job} is completed", following)
        job = last.job if last and not last.over else _next(session, assets, last)
    command = recipe.command("finetune")
    Follower(session, job, command, recipe.finetune.max_hours).follow()
    return Result("finetune", True, f"job {job} is completed", following)


def completed_job(session: AzureSession) -> tuple[str, dict[str, DataAsset]]:
    """The name of the recipe's completed job, and what it was trained on.

    Raises:
        FixableError: There is none yet, or Azure cannot be asked.
    """
    with _assets(session) as assets:
        last = last_attempt(session, assets)
    if last and last.completed:
        return last.job, assets
    state = f"job {last.job} is {last.status}" if last else "no job of this recipe and data yet"
    raise FixableError(state, session.recipe.command("finetune"))


@contextmanager
def _assets(session: AzureSession) -> Iterator[dict[str, DataAsset]]:
    recipe = session.recipe
    split = train_split(recipe)
    console.err.print(f"trained on {split}", markup=False)
    with data_assets(recipe, split.file) as assets:
        yield assets


def _next(session: AzureSession, assets: dict[str, DataAsset], last: Attempt | None) -> str:
    """Submit the next attempt; its name."""
    if last:
        console.err.print(f"the last attempt: {_why_ended(session, last)}", markup=False)
    return submission.start(session, assets, last.number + 1 if last else 1)


def _why_ended(session: AzureSession, last: Attempt) -> str:
    with session.errors(f"reading why job {last.job} ended"):
        history = History(session)
        run, steps = history.run(last.job), history.steps(last.job)
    return explain_failure(session, run, steps).what
