"""The forecast of a job, before it is submitted: hours, memory, and dollars by its price class."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from setup.azure.client import money
from setup.azure.facts import dated_table
from setup.azure.finetune.own_job import job_recipe
from setup.common.errors import FixableError
from setup.finetune.forecast.forecast import Forecast, duration
from setup.finetune.forecast.shape import shape_of
from setup.recipe.azure import AzureRecipe

_GB = 1e9


@dataclass(frozen=True)
class Sku:
    """Operations a second of one machine's products, its memory, and bytes of a frozen weight."""

    flop: float
    memory: float
    number_bytes: int
    on_gpu: bool


def forecast_lines(recipe: AzureRecipe, train: Path) -> list[str]:
    """Return lines of a plan: what the job will take, or why that is not known, and the most."""
    settings = recipe.finetune
    most = money.dollars(settings.compute.sku, settings.max_hours * settings.compute.nodes)
    limit = f"at most {settings.max_hours:g} hours, then it is cancelled: {most}"
    if settings.route == "catalog":
        return [f"time is not predicted for the catalog's own trainer; {limit}"]
    try:
        told, lack = _predicted(recipe, train)
    except FixableError as error:
        return [f"time and memory are not predicted: {error.what}; {limit}"]
    return [f"predicted: {told}; {limit}", *([f"memory: {lack}"] if lack else [])]


def _predicted(recipe: AzureRecipe, train: Path) -> tuple[str, str]:
    settings, job = recipe.finetune, job_recipe(recipe)
    shape, sku = shape_of(job.model), _sku(settings.compute.sku)
    if shape is None:
        raise FixableError(f"{job.model.file} is not here", "python -m setup doctor")
    if sku is None:
        raise FixableError(f"the speed of {settings.compute.sku} is not known", "another SKU")
    try:
        from setup.finetune.examples.dataset import read_split
        from setup.finetune.forecast.duration import flop_speeds, seconds
        from setup.finetune.forecast.memory import Machine
        from setup.finetune.forecast.outline import GUESSED, Outline
    except ImportError:
        raise FixableError("torch is missing", "python -m setup.install_torch") from None
    machine = Machine(sku.number_bytes, sku.on_gpu)
    outline = Outline(read_split(train, job.finetune), job.finetune, shape, machine)
    flop = sku.flop * settings.compute.nodes
    speeds = flop_speeds(shape, outline.plan.settings, outline.work, flop, machine.number_bytes)
    basis = f"{flop / 1e9:,.0f} GFLOP/s by a dated table; {GUESSED}; nothing was timed in Azure"
    forecast = Forecast(seconds(outline.work, speeds), outline.memory(), basis)
    start = 60 * float(dated_table("speeds")["start_minutes"])
    hours = (forecast.seconds + start) / 3600 * settings.compute.nodes
    price = money.dollars(settings.compute.sku, hours)
    told = f"{forecast.line()}, and {duration(start)} to start: {price}"
    return told, outline.advice(int(sku.memory))


def _sku(name: str) -> Sku | None:
    for row in dated_table("speeds")["skus"]:
        match = re.fullmatch(row["name"], name, re.IGNORECASE)
        if match and "gflops" in row:
            return Sku(row["gflops"] * _GB, row["gigabytes"] * _GB, row["bytes"], True)
        if match:
            vcpus = int(match["vcpus"])
            flop, memory = row["gflops_a_vcpu"] * vcpus, row["gigabytes_a_vcpu"] * vcpus
            return Sku(flop * _GB, memory * _GB, row["bytes"], False)
    return None
