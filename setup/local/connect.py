"""Connect: the Prompt flow connection through which the flows reach the local endpoint."""

from __future__ import annotations

import logging
from typing import Any

from setup.keyrings import check_keyring
from setup.local.control import LocalEndpoint
from setup.recipe import Recipe


def plan_connect(recipe: Recipe) -> list[str]:
    """What ``connect`` would do, a line each."""
    return [f"connection {recipe.connection}: endpoint {recipe.endpoint.name} and its key"]


def connect(recipe: Recipe) -> bool:
    """Create or update the recipe's connection; False when it was right already.

    Raises:
        FixableError: The endpoint does not run, or the keyring cannot keep a secret.
    """
    endpoint = LocalEndpoint(recipe.endpoint.name)
    configs, secrets = connection_values(recipe, endpoint)
    client = _client()
    if _same(client, recipe.connection, configs, secrets):
        return False
    check_keyring()
    from promptflow.entities import CustomConnection  # noqa: PLC0415 - three seconds of import

    connection = CustomConnection(name=recipe.connection, configs=configs, secrets=secrets)
    client.connections.create_or_update(connection)
    return True


def connection_values(
    recipe: Recipe, endpoint: LocalEndpoint
) -> tuple[dict[str, str], dict[str, str]]:
    """The connection's configs and secrets; every value is a string, as Prompt flow wants it."""
    configs = {
        "endpoint": f"{endpoint.url}/score",
        "tokenizer": f"{endpoint.url}/tokenize",
        "context_window": str(recipe.model.context_window),
        "system_role": recipe.model.system_role,
    }
    return configs, {"key": endpoint.scoring_key}


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
