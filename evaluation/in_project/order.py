"""An order to the project: the rows that it is to ask, and how."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.ask.columns import parse_mapping
from evaluation.ask.rows_in import RunData, read_data
from evaluation.in_project.flow_run import served_models
from evaluation.results import Request
from setup.azure.client.session import AzureSession
from setup.common import console
from setup.data import prepared_split
from setup.data.plan import data_plan
from setup.recipe.azure import AzureRecipe


@dataclass(frozen=True)
class Order:
    """An evaluation that is asked for: the rows, over how many machines, again by which command.

    ``served`` is which model answers, by deployment.
    """

    data: RunData
    nodes: int
    served: Mapping[str, Any]
    command: str
    request: Request
    name: str = ""

    @classmethod
    def of(cls, session: AzureSession, request: Request, nodes: int, name: str = "") -> Order:
        """The order of a request, with the recipe's connection and, if none is named, test split.

        Raises:
            FixableError: No rows, or no deployment that answers.
        """
        recipe = session.recipe
        served = served_models(session)
        mapping = parse_mapping(request.column_mapping)
        path = rows_file(session, request.data)
        data = read_data(path, request.limit, request.seed, mapping)
        command = _command(recipe, request, nodes, name)
        request = request.model_copy(update={"connections": (recipe.connection,), "data": path})
        return cls(data, nodes, served, command, request, name)


def rows_file(session: AzureSession, data: Path | None) -> Path:
    """The file ``data``, else the recipe's test split, which is said."""
    if data:
        return data
    split = prepared_split(data_plan(session.recipe), "test")
    console.err.print(f"asking {split}", markup=False)
    return split.file


def _command(recipe: AzureRecipe, request: Request, nodes: int, name: str) -> str:
    """The command that finds this very run again."""
    options = {
        "--nodes": nodes,
        "--data": request.data,
        "--limit": request.limit,
        "--seed": request.seed,
        "--name": name,
    }
    words = [part for option, value in options.items() if value for part in (option, str(value))]
    for mapping in request.column_mapping:
        words += ["--column-mapping", mapping]
    return recipe.command("run", shlex.join(words), of="evaluation")
