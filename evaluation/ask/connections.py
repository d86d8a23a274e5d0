"""The connection of a run, as promptflow keeps it: read for the flow's client, never written."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlsplit

from flows.chat.scoring_client import (
    Endpoint,
    EndpointError,
    EngineError,
    Generation,
    ReplyError,
    Settings,
)
from flows.chat.scoring_client.settings import place
from setup.common.errors import FixableError

_ATTEMPTS = 3


@dataclass(frozen=True)
class KnownConnection:
    """A custom connection: ``configs`` may be shown, the key is only in ``settings``."""

    name: str
    configs: dict[str, str]
    settings: Settings


def read_connection(name: str) -> KnownConnection:
    """The connection ``name`` of promptflow's store.

    Raises:
        FixableError: There is none, it is of another kind, or a value of it is wrong.
    """
    connection = stored_connection(
        name, "python -m setup connect, or name one of pf connection list"
    )
    secrets = dict(getattr(connection, "secrets", {}) or {})
    configs = dict(getattr(connection, "configs", {}) or {})
    try:
        settings = replace(Settings.from_values({**configs, **secrets}), name=name)
    except EndpointError as error:
        raise FixableError(f"connection {name}: {error.what}", error.fix) from None
    return KnownConnection(name, _shown(settings), settings)


def stored_connection(name: str, fix: str) -> Any:
    """The connection ``name`` of promptflow's store, of any kind, with its secrets.

    Raises:
        FixableError: There is none, which ``fix`` mends, or the keyring cannot open it.
    """
    from promptflow.client import PFClient  # noqa: PLC0415 - two seconds
    from promptflow.exceptions import PromptflowException  # noqa: PLC0415

    try:
        return PFClient().connections.get(name, with_secrets=True)
    except PromptflowException:
        raise FixableError(f"no connection {name}", fix) from None
    except Exception as error:
        # promptflow has no class of its own for a keyring that lost the store's key.
        if type(error) is not Exception:
            raise
        raise FixableError(f"connection {name}: {error}", fix) from None


def _shown(settings: Settings) -> dict[str, str]:
    """Return what may be kept of a connection: never the key, nor a URL's query, which can be one.

    Foundry's custom keys put everything among the secrets, so where a value stood says nothing.
    """
    values = {field.name: str(getattr(settings, field.name)) for field in fields(settings)}
    for name in ("endpoint", "tokenizer"):
        url = values[name]
        values[name] = f"{urlsplit(url).scheme}://{place(url)}" if url else ""
    values["endpoint_sha256"] = hashlib.sha256(settings.endpoint.encode()).hexdigest()
    return {name: value for name, value in values.items() if value and name != "key"}


def check_endpoint(connection: KnownConnection) -> None:
    """Ask one short question, so that a dead endpoint is found before row 1.

    Raises:
        FixableError: No answer, in the client's own words.
    """
    question: list[Any] = [{"role": "user", "content": "Say yes."}]
    endpoint = Endpoint(connection.settings)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            endpoint.complete(question, Generation(max_new_tokens=8))
        except EndpointError as error:
            # What a wait can mend the client has tried again already.
            if attempt == _ATTEMPTS or not isinstance(error, EngineError | ReplyError):
                raise FixableError(
                    f"connection {connection.name} gives no answer: {error.what} ({error.where})",
                    f"{error.fix}; python -m setup status",
                ) from None
        else:
            return
