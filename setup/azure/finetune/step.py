"""The step ``finetune`` in Azure: one job per data, model and settings, found again by its name.

A job is handed to Azure once everything that can be checked before is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from setup.azure.client import money, waiting
from setup.azure.client.session import AzureSession
from setup.azure.data import step as data
from setup.azure.facts.lifecycle import refuse_objected
from setup.azure.finetune import catalog_pipeline, own_job
from setup.azure.finetune.attempts import Attempt, job_name, last_attempt
from setup.azure.finetune.follow import Bounds, Follower, why_ended
from setup.azure.finetune.job_forecast import forecast_lines
from setup.common import console
from setup.common.errors import FixableError
from setup.common.step import Result

if TYPE_CHECKING:
    from azure.ai.ml.entities import Job

Assets = dict[str, data.DataAsset]


def plan(session: AzureSession) -> list[str]:
    """List what ``run`` would do; checks the inputs of the component, asks for no money."""
    recipe = session.recipe
    finetune = recipe.finetune
    what = (
        f"fine-tune {recipe.model.name} with {finetune.component} {finetune.component_version}"
        if finetune.route == "catalog"
        else f"fine-tune {recipe.model.file or recipe.model.name} with our own trainer"
    )
    if not data.train_file(recipe).is_file():
        return [what, money.finetune_costs(recipe).line()]
    try:
        split = data.train_split(recipe)
    except FixableError as error:
        return [what, f"but first: {error}", money.finetune_costs(recipe).line()]
    what += f" on {split.source}"
    with data.data_assets(recipe, split.file) as assets:
        last = last_attempt(session, assets)
        if last and last.completed:
            return [f"{what}: job {last.job} is completed"]
        if last and not last.over:
            return [f"{what}: follow job {last.job}, {last.status}"]
        if finetune.route == "catalog":
            _catalog_inputs(session, assets)
        name = job_name(recipe, assets, last.number + 1 if last else 1)
    told = forecast_lines(recipe, split.file)
    return [f"{what}, as job {name}", *told, money.finetune_costs(recipe).line()]


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
    Follower(session, job, command, Bounds.of_training(recipe)).follow()
    return Result("finetune", True, f"job {job} is completed", following)


def completed_job(session: AzureSession) -> tuple[str, Assets]:
    """The name of the recipe's completed job, and what it was trained on; an error if none is."""
    with _assets(session) as assets:
        last = last_attempt(session, assets)
    if last and last.completed:
        return last.job, assets
    state = f"job {last.job} is {last.status}" if last else "no job of this recipe and data yet"
    raise FixableError(state, session.recipe.command("finetune"))


@contextmanager
def _assets(session: AzureSession) -> Iterator[Assets]:
    recipe = session.recipe
    split = data.train_split(recipe)
    console.err.print(f"trained on {split}", markup=False)
    with data.data_assets(recipe, split.file) as assets:
        yield assets


def _next(session: AzureSession, assets: Assets, last: Attempt | None) -> str:
    """Submit the next attempt, once everything that can be checked before is; its name."""
    if last:
        console.err.print(f"the last attempt: {why_ended(session, last.job)}", markup=False)
    recipe = session.recipe
    for asset in assets.values():
        if not data.is_registered(session, asset):
            fix = recipe.command("data")
            raise FixableError(f"{recipe.azure.workspace} has no data asset {asset}", fix)
    _refuse_other_cluster(session)
    refuse_objected(session)
    name = job_name(recipe, assets, last.number + 1 if last else 1)
    if recipe.finetune.route == "catalog":
        job = catalog_pipeline.pipeline_job(*_catalog_inputs(session, assets))
        told = (
            "a pipeline has no time limit in Azure: the command that follows it ends it after "
            f"{recipe.finetune.max_hours:g} hours, and nobody else does"
        )
        console.err.print(told, markup=False)
        money.confirm([money.finetune_costs(recipe)])
        _submit(session, job, name, assets)
    else:
        with own_job.prepared_job(session, assets) as command_job:
            _submit(session, command_job, name, assets)
    console.err.print(f"job {name} is submitted", markup=False)
    return name


def _refuse_other_cluster(session: AzureSession) -> None:
    """The cluster that is there decides the price and whether the job ever gets its machines."""
    if what := _wrong_with(session):
        workspace, fix = session.recipe.azure.workspace, session.recipe.command("provision")
        raise FixableError(f"workspace {workspace} has {what}", fix)


def _wrong_with(session: AzureSession) -> str:
    settings, there = session.recipe.finetune.compute, session.find_cluster()
    if there is None:
        return f"no cluster {settings.name}"
    if str(there.get("vmSize")).lower() != settings.sku.lower():
        return f"cluster {settings.name} of {there.get('vmSize')}, the recipe says {settings.sku}"
    nodes = (there.get("scaleSettings") or {}).get("maxNodeCount", settings.nodes)
    if nodes < settings.nodes:
        return f"cluster {settings.name} of at most {nodes} nodes, the recipe says {settings.nodes}"
    return ""


def _catalog_inputs(session: AzureSession, assets: Assets) -> tuple[Any, Any]:
    """Look up the component, and what it takes of the assets and the recipe."""
    component = catalog_pipeline.find_component(session)
    return component, catalog_pipeline.component_inputs(session, component, assets)


def _submit(session: AzureSession, job: Job | Any, name: str, assets: Assets) -> None:
    recipe = session.recipe
    job.name = job.display_name = name
    job.experiment_name = recipe.name
    job.tags = {
        **recipe.azure.tags,
        "model": recipe.model.source,
        **data.source_tags(recipe),
        **{f"data_{part}": str(asset) for part, asset in assets.items()},
    }
    try:
        with session.errors(f"submitting job {name}"), waiting.nothing_printed():
            session.ml().jobs.create_or_update(job)
    except KeyboardInterrupt:
        told = f"job {name} may run in Azure, and cost; the same command finds and follows it"
        console.err.print(told, markup=False)
        raise
