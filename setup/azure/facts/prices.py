"""Prices of a recipe's parts by the hour: a class from a dated table, never a promise."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from setup.azure.facts import dated_table
from setup.recipe.azure import AzureRecipe

UNKNOWN = "unknown price"


@dataclass(frozen=True)
class Billable:
    """Something that costs money while it exists or runs.

    ``price`` is a class such as ``$$$`` or UNKNOWN, of one machine; ``count`` machines at most;
    ``when`` says what makes it cost.
    """

    what: str
    sku: str
    count: int
    price: str
    when: str

    def line(self) -> str:
        """For people."""
        times = f"{self.count} x " if self.count > 1 else ""
        return f"{self.what}: {times}{self.sku}, {self.price} an hour {self.when}"


def hourly(sku: str, count: int | None = 1) -> str:
    """Describe ``count`` machines and their price class."""
    times = f"{count} x " if count and count > 1 else ""
    return f"{times}{sku}, {price_class(sku)} an hour"


def price_class(sku: str) -> str:
    """``$`` to ``$$$$`` for an hour of ``sku``, or UNKNOWN."""
    rows = dated_table("prices")["skus"]
    matches = (row for row in rows if re.fullmatch(row["name"], sku, re.IGNORECASE))
    return str(next((row["class"] for row in matches), UNKNOWN))


def finetune_costs(recipe: AzureRecipe) -> Billable:
    """The cluster while a job runs on it."""
    settings = recipe.finetune
    until = f"while the job runs, at most {settings.max_hours:g} hours"
    sku = settings.compute.sku
    return Billable(
        f"cluster {settings.compute.name}", sku, settings.compute.nodes, price_class(sku), until
    )


def endpoint_costs(recipe: AzureRecipe, name: str) -> Billable:
    """The deployment of endpoint ``name`` for as long as it exists, asked or not."""
    settings = recipe.endpoint
    what = f"deployment {settings.deployment} of endpoint {name}"
    return Billable(
        what, settings.sku, settings.instances, price_class(settings.sku), "until it is deleted"
    )


def base_costs(recipe: AzureRecipe) -> Billable:
    """Return the price of what a workspace stands on: storage, registry, key vault, logs."""
    what = f"storage, registry, key vault and logs of {recipe.azure.workspace}"
    return Billable(what, "Basic and Standard", 1, "$", "until they are deleted")


def legend() -> str:
    """Say what the classes mean, when the table was made, and where today's prices are."""
    table = dated_table("prices")
    classes = ", ".join(f"{name} {what}" for name, what in table["classes"].items())
    return f"dollars an hour: {classes} ({table['checked']}; today's: {table['source']})"


def price_lines(items: Sequence[Billable]) -> list[str]:
    """``items`` as lines for people, with the legend below."""
    return [*(item.line() for item in items), legend()]
