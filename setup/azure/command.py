"""Surroundings of every command on a recipe for Azure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from setup.azure.ask import answered
from setup.azure.recipe import AzureRecipe
from setup.options import after_interrupt, named_as_typed


@contextmanager
def in_azure(recipe: AzureRecipe, options: str, yes: bool = False) -> Iterator[None]:
    """While the block runs: ``yes`` answers what is asked, ``options`` name the recipe.

    Raises:
        FixableError: As the block, its commands with ``options``.
    """
    stays = f"what there is in Azure stays, and may cost until: python -m setup teardown {options}"
    with answered(yes), named_as_typed(recipe.name, options), after_interrupt(stays):
        yield
