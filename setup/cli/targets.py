"""The targets: a folder each, and its line here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from setup.azure import path as azure
from setup.common.errors import FixableError
from setup.common.step import OperatedEndpoint, Target
from setup.finetune import step as job
from setup.local import steps as local
from setup.recipe.load import DEFAULT, AnyRecipe

TARGETS: dict[str, Target] = {"local": local, "azure": azure, "job": job}


@contextmanager
def session_of(recipe: AnyRecipe, yes: bool = False) -> Iterator[Any]:
    """The one session of a command; ``yes`` answers what is asked about money.

    Raises:
        FixableError: As the block, its commands with the options that name ``recipe``.
    """
    with TARGETS[recipe.target].session(recipe, yes) as session, recipe.naming():
        yield session


@contextmanager
def endpoint_of(recipe: AnyRecipe) -> Iterator[OperatedEndpoint]:
    """The endpoint that the recipe deploys; nothing about it costs, so that nothing is asked."""
    target: Any = TARGETS[recipe.target]
    if not hasattr(target, "endpoint"):
        raise FixableError(f"target {recipe.target} has no endpoint", f"--recipe {DEFAULT}")
    with recipe.naming():
        yield target.endpoint(recipe)
