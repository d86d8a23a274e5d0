"""A job handed to Azure, once everything that can be checked before is."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import TYPE_CHECKING, Any

from setup.azure.client.money import confirm, finetune_costs
from setup.azure.client.session import AzureSession
from setup.azure.data.step import DataAsset, is_registered, train_split
from setup.azure.facts.lifecycle import refuse_objected
from setup.azure.finetune.attempts import job_name
from setup.common import console
from setup.common.errors import FixableError
from setup.recipe.azure import AzureRecipe, Compute

if TYPE_CHECKING:
    from azure.ai.ml.entities import Job


def start(session: AzureSession, assets: dict[str, DataAsset], number: int) -> str:
    """Submit attempt ``number``, once everything that can be checked before is; its name."""
    recipe = session.recipe
    for asset in assets.values():
        if not is_registered(session, asset):
            fix = recipe.command("data")
            raise FixableError(f"{recipe.azure.workspace} has no data asset {asset}", fix)
    _refuse_other_cluster(session)
    refuse_objected(session)
    name = job_name(recipe, assets, number)
    if recipe.finetune.route == "catalog":
        inputs = catalog_inputs(session, assets)
        _ask(recipe)
        _submit_catalog(session, name, assets, inputs)
    else:
        _submit_own(session, name, assets)
    console.err.print(f"job {name} is submitted", markup=False)
    return name


def _refuse_other_cluster(session: AzureSession) -> None:
    """The cluster that is there decides the price and whether the job ever gets its machines."""
    azure, settings = session.recipe.azure, session.recipe.finetune.compute
    if what := _wrong_with(session.find_cluster(), settings):
        raise FixableError(
            f"workspace {azure.workspace} has {what}",
            session.recipe.command("provision"),
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


def catalog_inputs(session: AzureSession, assets: dict[str, DataAsset]) -> tuple[Any, Any]:
    """Look up the component, and what it takes of the assets and the recipe."""
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
        with session.errors(f"submitting job {name}"), _kept_quiet():
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
