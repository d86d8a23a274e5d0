"""Prices by the hour, a class from a dated table and never a promise; nothing is made unasked."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from setup.azure.facts import dated_table
from setup.common import console
from setup.common.errors import FixableError
from setup.recipe.azure import AzureRecipe

UNKNOWN = "unknown price"
_said_yes = ContextVar("said_yes", default=False)


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


def dollars(sku: str, hours: float) -> str:
    """Return what ``hours`` of ``sku`` cost by its class: a range, for a class is no price."""
    name = price_class(sku)
    if name == UNKNOWN:
        return f"{hours:.1f} h of {sku}, {UNKNOWN}"
    low, high = dated_table("prices")["bounds"][name]
    low, high = low * hours, high and high * hours
    amount = f"{low:.2f} to {high:.2f}" if low and high else f"under {high:.2f}"
    if not high:
        amount = f"over {low:.2f}"
    return f"{hours:.1f} h of {sku}, {name}: {amount} dollars"


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
    price, count = price_class(settings.sku), settings.most_instances
    return Billable(what, settings.sku, count, price, "until it is deleted")


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


@contextmanager
def answered(yes: bool) -> Iterator[None]:
    """While the block runs, ``confirm`` takes the command line's ``--yes`` as the answer."""
    token = _said_yes.set(yes)
    try:
        yield
    finally:
        _said_yes.reset(token)


def confirm(items: Sequence[Billable], yes: bool | None = None) -> None:
    """Show what would be made and at what price, if anything, and go on only if the user agrees.

    ``yes`` None is what the command line was told. Raises FixableError where nobody agrees.
    """
    if items:
        agree("this makes what costs money:", price_lines(items), yes)


def agree(what: str, lines: Sequence[str], yes: bool | None = None) -> None:
    """Show ``what`` and ``lines``, and go on only if the user agrees; as ``confirm`` otherwise."""
    agreed = _said_yes.get() if yes is None else yes
    if not agreed and not sys.stdin.isatty():
        raise FixableError(
            f"nobody is there to agree; {what} {'; '.join(lines)}", "the same command with --yes"
        )
    for line in (what, *(f"  {line}" for line in lines)):
        console.err.print(line, markup=False)
    if not agreed and not _says_yes():
        raise FixableError("stopped: you did not agree", "the same command with --yes")


def _says_yes() -> bool:
    try:
        said = console.err.input("go on? [y/N] ", markup=False)
    except EOFError:  # Ctrl-D
        return False
    return said.strip().lower() in ("y", "yes")
