"""The step ``connect``: the Prompt flow connections through which flows reach the endpoint.

The recipe's own connection follows the endpoint's traffic table; beside it stands one for each
deployment, named after both, which asks that one alone.
"""

from __future__ import annotations

from typing import Any

from setup.common.connection_store import InFile, keep_in_both
from setup.common.promptflow_store import is_promptflow_installed
from setup.common.step import Result
from setup.local.control import LocalEndpoint
from setup.local.rollout import candidate_name
from setup.serve.settings import KEYS


def plan(endpoint: LocalEndpoint) -> list[str]:
    """Return the things that ``run`` would do, a line each."""
    name = endpoint.recipe.connection
    return [
        f"connection {name}: endpoint {endpoint.name} and its key",
        f"connection {name}-DEPLOYMENT for each of its deployments",
    ]


def run(endpoint: LocalEndpoint) -> Result:
    """Create or update the connections.

    Raises:
        FixableError: The endpoint does not run, or the keyring cannot keep a secret.
    """
    connections = _configs(endpoint)
    place = InFile(endpoint.folder / KEYS, "scoring")
    changed, kept = keep_in_both(connections, endpoint.scoring_key, place)
    *others, last = connections
    detail = f"connections {', '.join(others)} and {last} reach endpoint {endpoint.name}"
    question = "What is the capital of France?"
    command = f'pf flow test --flow flows/chat --inputs question="{question}"'
    if not is_promptflow_installed():
        command = endpoint.recipe.command("run", of="evaluation")
    return Result("connect", changed, f"{detail}, its key {kept}", command)


def _configs(endpoint: LocalEndpoint) -> dict[str, dict[str, str]]:
    """Each connection's configs, by its name; every value is text, as Prompt flow wants it."""
    recipe = endpoint.recipe
    shared = {
        "endpoint": f"{endpoint.url}/score",
        "tokenizer": f"{endpoint.url}/tokenize",
        "context_window": str(recipe.model.context_window),
        "system_role": recipe.model.system_role,
        "concurrency": str(recipe.endpoint.slots),
    }
    connections = {recipe.connection: shared}
    for name, row in deployments_of(endpoint).items():
        own = {"deployment": name, "context_window": str(row["context_window"])}
        connections[f"{recipe.connection}-{name}"] = {**shared, **own}
    return connections


def deployments_of(endpoint: LocalEndpoint) -> dict[str, Any]:
    """Ask the endpoint about each of its deployments, but for one that is only being tried.

    Raises:
        FixableError: The endpoint does not run.
    """
    rows = dict(endpoint.manage("GET")["deployments"])
    rows.pop(candidate_name(endpoint.recipe), None)
    return rows
