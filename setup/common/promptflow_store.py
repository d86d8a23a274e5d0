"""Prompt flow's store of connections on this machine."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from setup.common.errors import FixableError


def is_promptflow_installed() -> bool:
    """Tell whether promptflow itself can be imported, which engine plain only stands in for."""
    found = importlib.util.find_spec("promptflow")
    return found is not None and found.origin is not None


def keep_connections(connections: Mapping[str, dict[str, str]], secrets: dict[str, str]) -> bool:
    """Create or update custom connections; False when all were right already.

    Args:
        connections: The configs of each connection by its name; values are text.
        secrets: The secrets of all of them.

    Raises:
        FixableError: The keyring cannot keep a secret.
    """
    client = _client()
    missing = {
        name: configs
        for name, configs in connections.items()
        if not _same(client, name, configs, secrets)
    }
    if not missing:
        return False
    check_keyring()
    from promptflow.entities import CustomConnection

    for name, configs in missing.items():
        connection = CustomConnection(name=name, configs=configs, secrets=secrets)
        client.connections.create_or_update(connection)
    return True


def connection_names() -> list[str]:
    """The names of all connections in the store."""
    return sorted(
        str(connection.name) for connection in _client().connections.list(all_results=True)
    )


def drop_connections(is_stale: Callable[[str, dict[str, str]], bool]) -> list[str]:
    """Delete the custom connections whose name and configs are stale; returns their names."""
    from promptflow.entities import CustomConnection

    client = _client()
    custom = [
        connection
        for connection in client.connections.list(all_results=True)
        if isinstance(connection, CustomConnection)
    ]
    stale = [
        str(connection.name)
        for connection in custom
        if is_stale(str(connection.name), dict(connection.configs))
    ]
    for name in stale:
        client.connections.delete(name)
    return stale


def _client() -> Any:
    from promptflow.client import PFClient

    logging.getLogger("promptflow").setLevel(logging.ERROR)
    return PFClient()


def _same(client: Any, name: str, configs: dict[str, str], secrets: dict[str, str]) -> bool:
    from promptflow.exceptions import PromptflowException

    try:
        stored = client.connections.get(name, with_secrets=True)
    except PromptflowException:  # not there, or its secret cannot be decrypted any more
        return False
    return dict(stored.configs) == configs and dict(stored.secrets) == secrets


def quieten_promptflow() -> None:
    """Keep promptflow's loggers from the terminal; a run's own log keeps every word."""
    from promptflow._utils.logger_utils import LoggerFactory

    for logger in LoggerFactory._existing_loggers:
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.setLevel(logging.CRITICAL + 1)


_SERVICE = "finetune-phi"


def keyring_name() -> str:
    """The backend in use, as ``module.Class``."""
    import keyring

    backend = type(keyring.get_keyring())
    return f"{backend.__module__}.{backend.__name__}"


def check_keyring() -> str:
    """Store a probe and read it back; returns the backend's name and what to know of it.

    Prompt flow notices a keyring that forgets (the null backend) only when a later process cannot
    decrypt its connections any more.

    Raises:
        FixableError: The backend cannot keep a secret, or does not give it back.
    """
    import keyring
    from keyring.errors import KeyringError

    fix = "pip install keyrings.alt, and unset PYTHON_KEYRING_BACKEND"
    user = f"probe-{os.getpid()}"
    try:
        name = keyring_name()
        keyring.set_password(_SERVICE, user, "kept")
        kept = keyring.get_password(_SERVICE, user) == "kept"
        if kept:
            keyring.delete_password(_SERVICE, user)
    except (ImportError, AttributeError) as error:
        raise FixableError(f"PYTHON_KEYRING_BACKEND names no keyring ({error})", fix) from None
    except (KeyringError, RuntimeError, OSError) as error:
        what = f"the keyring {name} cannot keep a secret ({type(error).__name__})"
        raise FixableError(what, fix) from None
    if not kept:
        raise FixableError(f"the keyring {name} forgets what it is given", fix)
    plain = name.startswith("keyrings.alt")
    return name + (" (a file only you can read, not encrypted)" if plain else "")
