"""The step ``finetune`` in Azure: one job per data, model and settings, found again by its name."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import TYPE_CHECKING, Any

from setup.azure.client.cluster import find_cluster
from setup.azure.client.money import confirm
from setup.azure.client.session import AzureSession, azure_errors
from setup.azure.data.step import DataAsset, data_assets, is_registered, train_split
from setup.azure.facts.lifecycle import refuse_objected
from setup.azure.facts.prices import finetune_costs
from setup.azure.finetune.attempts import Attempt, job_name, last_attempt
from setup.azure.finetune.follow import Follower
from setup.azure.finetune.job_history import History
from setup.azure.finetune.why_failed import explain_failure
from setup.common import console
from setup.common.errors import FixableError
from setup.common.step import Result
from setup.data.plan import data_plan
from setup.recipe.azure import AzureRecipe, Compute

if TYPE_CHECKING:
    from azure.ai.ml.entities import Job


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
            _catalog_inputs(session, assets)
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
    following = f"python -m setup register --recipe {recipe.name}"
    with _assets(recipe) as assets:
        last = last_attempt(session, assets)
        if last and last.completed:
            return Result("finetune", False, f"job {last.job} is completed", following)
        job = last.job if last and not last.over else _start(session, assets, last)
    command = f"python -m setup finetune --recipe {recipe.name}"
    Follower(session, job, command, recipe.finetune.max_hours).follow()
    return Result("finetune", True, f"job {job} is completed", following)


def completed_job(session: AzureSession) -> tuple[str, dict[str, DataAsset]]:
    """The name of the recipe's completed job, and what it was trained on.

    Raises:
        FixableError: There is none yet, or Azure cannot be asked.
    """
    with _assets(session.recipe) as assets:
        last = last_attempt(session, assets)
    if last and last.completed:
        return last.job, assets
    state = f"job {last.job} is {last.status}" if last else "no job of this recipe and data yet"
    raise FixableError(state, f"python -m setup finetune --recipe {session.recipe.name}")


@contextmanager
def _assets(recipe: AzureRecipe) -> Iterator[dict[str, DataAsset]]:
    split = train_split(recipe)
    console.err.print(f"trained on {split}", markup=False)
    with data_assets(recipe, split.file) as assets:
        yield assets


def _start(session: AzureSession, assets: dict[str, DataAsset], last: Attempt | None) -> str:
    """Submit the next attempt, once everything that can be checked before is; its name."""
    recipe, number = session.recipe, 1
    if last:
        number = last.number + 1
        console.err.print(f"the last attempt: {_why_ended(session, last)}", markup=False)
    for asset in assets.values():
        if not is_registered(session, asset):
            fix = f"python -m setup data --recipe {recipe.name}"
            raise FixableError(f"{recipe.azure.workspace} has no data asset {asset}", fix)
    _refuse_other_cluster(session)
    refuse_objected(session)
    name = job_name(recipe, assets, number)
    if recipe.finetune.route == "catalog":
        inputs = _catalog_inputs(session, assets)
        _ask(recipe)
        _submit_catalog(session, name, assets, inputs)
    else:
        _submit_own(session, name, assets)
    console.err.print(f"job {name} is submitted", markup=False)
    return name


def _why_ended(session: AzureSession, last: Attempt) -> str:
    with azure_errors(f"reading why job {last.job} ended"):
        history = History(session)
        run, steps = history.run(last.job), history.steps(last.job)
    return explain_failure(session, run, steps).what


def _refuse_other_cluster(session: AzureSession) -> None:
    """The cluster that is there decides the price and whether the job ever gets its machines."""
    azure, settings = session.recipe.azure, session.recipe.finetune.compute
    if what := _wrong_with(find_cluster(session), settings):
        raise FixableError(
            f"workspace {azure.workspace} has {what}",
            f"python -m setup provision --recipe {session.recipe.name}",
        )


def _wrong_with(cluster: dict[str, Any] | None, settings: Compute) -> str:
    if cluster is None:
        return f"no cluster {settings.name}"
    there = cluster["properties"].get("properties") or {}
    if str(there.get("vmSize")).lower() != settings.sku.lower():
        return f"cluster {settings.name} of {there.get('vmSize')}, the recipe says {settings.sku}"
    nodes = (there.get("scaleSettings") or {}).get("maxNodeCount", settings.nodes)
    if nodes < settings.nodes:
        return f"cluster {settings.name} of at most {nodes} nodes, the recipe says {settings.nodes}"
    return ""


def _ask(recipe: AzureRecipe) -> None:
    if recipe.finetune.route == "catalog":
        told = (
            "a pipeline has no time limit in Azure: the command that follows it ends it after "
            f"{recipe.finetune.max_hours:g} hours, and nobody else does"
        )
        console.err.print(told, markup=False)
    confirm([finetune_costs(recipe)])


def _catalog_inputs(session: AzureSession, assets: dict[str, DataAsset]) -> tuple[Any, Any]:
    from setup.azure.finetune.catalog_pipeline import component_inputs, find_component  # noqa: PLC0415 - slow

    component = find_component(session)
    return component, component_inputs(session, component, assets)


def _submit_catalog(
    session: AzureSession, name: str, assets: dict[str, DataAsset], inputs: tuple[Any, Any]
) -> None:
    from setup.azure.finetune.catalog_pipeline import pipeline_job  # noqa: PLC0415

    _submit(session, pipeline_job(*inputs), name, assets)


def _submit_own(session: AzureSession, name: str, assets: dict[str, DataAsset]) -> None:
    from setup.azure.finetune import own_job  # noqa: PLC0415 - slow

    recipe, gpus = session.recipe, own_job.gpus_each(session)
    with own_job.code_snapshot(recipe, train_split(recipe)) as code:
        _ask(recipe)
        with _kept_quiet():
            environment = own_job.ensure_environment(session)
        job = own_job.command_job(recipe, code, environment, assets["train"], gpus)
        _submit(session, job, name, assets)


def _submit(session: AzureSession, job: Job | Any, name: str, assets: dict[str, DataAsset]) -> None:
    recipe = session.recipe
    job.name = job.display_name = name
    job.experiment_name = recipe.name
    job.tags = {
        **recipe.azure.tags,
        "model": recipe.model.source,
        **{f"data_{part}": str(asset) for part, asset in assets.items()},
    }
    try:
        with azure_errors(f"submitting job {name}"), _kept_quiet():
            session.ml(recipe.azure.workspace).jobs.create_or_update(job)
    except KeyboardInterrupt:
        told = f"job {name} may run in Azure, and cost; the same command finds and follows it"
        console.err.print(told, markup=False)
        raise


@contextmanager
def _kept_quiet() -> Iterator[None]:
    """azure-ai-ml prints empty lines and colours to stderr when it uploads."""
    with redirect_stderr(io.StringIO()):
        yield
