"""The targets: a folder each, and its line here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from setup.azure import path as azure
from setup.common.step import Target
from setup.finetune import step as job
from setup.local import steps as local
from setup.recipe.load import AnyRecipe

TARGETS: dict[str, Target] = {"local": local, "azure": azure, "job": job}


@contextmanager
def session_of(recipe: AnyRecipe, yes: bool = False) -> Iterator[Any]:
    """The one session of a command; ``yes`` answers what is asked about money.

    Raises:
        FixableError: As the block, its commands with the options that name ``recipe``.
    """
    with TARGETS[recipe.target].session(recipe, yes) as session, recipe.naming():
        yield session
