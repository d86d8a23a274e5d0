"""The request for a run: kept in its folder, so that going on with it needs no option again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from setup.common.errors import FixableError
from setup.common.paths import read_json, runs_folder, write_private
from setup.recipe.load import DEFAULT

FILE = "run.json"
Mode = Literal["new", "resume", "retry"]


class Request(BaseModel):
    """The options of ``python -m evaluation run``; empty and None mean the default found later.

    ``connections`` are asked in this order, the first is the baseline of the comparison. ``judge``
    is a connection to a model that judges every answer ``judge_repeats`` times; ``workers`` is how
    many questions are in flight, 0 what the endpoint takes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    connections: tuple[str, ...] = ()
    recipe: str = DEFAULT
    sets: tuple[str, ...] = ()
    data: Path | None = None
    column_mapping: tuple[str, ...] = ()
    evaluators: tuple[str, ...] = ("answers",)
    limit: int | None = None
    seed: int = 0
    variant: str = ""
    workers: int = 0
    judge: str = "judge"
    judge_model: str = ""
    judge_repeats: int = 1
    force_judge: bool = False


def save_request(name: str, request: Request) -> None:
    """Keep it as run.json of the run ``name``."""
    write_private(runs_folder() / name / FILE, request.model_dump(mode="json"))


def load_request(name: str) -> Request:
    """Read what the run ``name`` was asked for.

    Raises:
        FixableError: There is no such run.
    """
    path = runs_folder() / name / FILE
    try:
        return Request.model_validate(read_json(path))
    except ValidationError:
        raise FixableError(
            f"no run {name} in {runs_folder()}", "python -m evaluation list"
        ) from None


def go_on(name: str, values: Mapping[str, Any]) -> Request:
    """The request of the run ``name``, with what was given anew in its place.

    A value that would make it another run is refused later, by name.

    Raises:
        FixableError: There is no such run.
    """
    return load_request(name).model_copy(update=dict(values))
