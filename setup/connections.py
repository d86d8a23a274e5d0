"""Prompt flow's store of connections on this machine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from setup.keyrings import check_keyring


def keep_connections(wanted: Mapping[str, dict[str, str]], secrets: dict[str, str]) -> bool:
    """Create or update custom connections; False when all were right already.

    Args:
        wanted: The configs of each connection by its name; values are text.
        secrets: The secrets of all of them.

    Raises:
        FixableError: The keyring cannot keep a secret.
    """
    client = _client()
    missing = {n: values for n, values in wanted.items() if not _same(client, n, values, secrets)}
    if not missing:
        return False
    check_keyring()
    from promptflow.entities import CustomConnection  # noqa: PLC0415 - three seconds of import

    for name, configs in missing.items():
        connection = CustomConnection(name=name, configs=configs, secrets=secrets)
        client.connections.create_or_update(connection)
    return True


def drop_connections(is_stale: Callable[[str, dict[str, str]], bool]) -> list[str]:
    """Delete the custom connections whose name and configs are stale; returns their names."""
    from promptflow.entities import CustomConnection  # noqa: PLC0415

    client = _client()
    custom = [
        one
        for one in client.connections.list(all_results=True)
        if isinstance(one, CustomConnection)
    ]
    stale = [str(one.name) for one in custom if is_stale(str(one.name), dict(one.configs))]
    for name in stale:
        client.connections.delete(name)
    return stale


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
