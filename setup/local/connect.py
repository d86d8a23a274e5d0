"""Connect: the Prompt flow connections through which the flows reach the local endpoint."""

from __future__ import annotations

import logging
from typing import Any

from setup.keyrings import check_keyring
from setup.local.control import LocalEndpoint
from setup.local.rollout import candidate_name
from setup.recipe import Recipe


def plan_connect(recipe: Recipe) -> list[str]:
    """What ``connect`` would do, a line each."""
    name = recipe.connection
    return [
        f"connection {name}: endpoint {recipe.endpoint.name} and its key",
        f"connection {name}-DEPLOYMENT for each of its deployments",
    ]


def connect(recipe: Recipe) -> bool:
    """Create or update the recipe's connections; False when all were right already.

    The connection of the recipe follows the endpoint's traffic table; beside it stands one for
    each deployment, named after both, which asks that one alone.

    Raises:
        FixableError: The endpoint does not run, or the keyring cannot keep a secret.
    """
    endpoint = LocalEndpoint(recipe.endpoint.name)
    wanted = connection_values(recipe, endpoint)
    secrets = {"key": endpoint.scoring_key}
    client = _client()
    missing = {
        name: configs
        for name, configs in wanted.items()
        if not _same(client, name, configs, secrets)
    }
    if not missing:
        return False
    check_keyring()
    from promptflow.entities import CustomConnection  # noqa: PLC0415 - three seconds of import

    for name, configs in missing.items():
        connection = CustomConnection(name=name, configs=configs, secrets=secrets)
        client.connections.create_or_update(connection)
    return True


def connection_values(recipe: Recipe, endpoint: LocalEndpoint) -> dict[str, dict[str, str]]:
    """Each connection's configs, by its name; every value is text, as Prompt flow wants it.

    Raises:
        FixableError: The endpoint does not run.
    """
    shared = {
        "endpoint": f"{endpoint.url}/score",
        "tokenizer": f"{endpoint.url}/tokenize",
        "context_window": str(recipe.model.context_window),
        "system_role": recipe.model.system_role,
        "concurrency": str(recipe.endpoint.slots),
    }
    wanted = {recipe.connection: shared}
    for name, row in deployments_of(recipe, endpoint).items():
        own = {"deployment": name, "context_window": str(row["context_window"])}
        wanted[f"{recipe.connection}-{name}"] = {**shared, **own}
    return wanted


def deployments_of(recipe: Recipe, endpoint: LocalEndpoint) -> dict[str, Any]:
    """What the endpoint tells of each deployment, without one that is only being tried.

    Raises:
        FixableError: The endpoint does not run.
    """
    rows = dict(endpoint.manage("GET")["deployments"])
    rows.pop(candidate_name(recipe), None)
    return rows


def _client() -> Any:
    from promptflow.client import PFClient  # noqa: PLC0415

    logging.getLogger("promptflow").setLevel(logging.ERROR)
    return PFClient()


def _same(client: Any, name: str, configs: dict[str, str], secrets: dict[str, str]) -> bool:
    from promptflow.exceptions import PromptflowException  # noqa: PLC0415

    try:
        found = client.connections.get(name, with_secrets=True)
    except PromptflowException:  # not there, or its secret cannot be decrypted any more
        return False
    return dict(found.configs) == configs and dict(found.secrets) == secrets
