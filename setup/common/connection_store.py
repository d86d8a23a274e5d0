"""Our own store of connections, for engines that do without promptflow.

A file that only its owner can read holds what may be shown, and of each secret the place where it
is: a field of another private file, or the keyring. The variable ``NAME_KEY`` comes before both:
``PHI_TUNED_KEY`` is the secret ``key`` of connection ``phi-tuned``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from setup.common import promptflow_store
from setup.common.errors import FixableError
from setup.common.paths import read_json, registry_folder, write_private

FILE = "connections.json"
_SERVICE = "finetune-phi"
_CONNECT = "python -m setup connect"


@dataclass(frozen=True)
class InFile:
    """A secret that is the field ``name`` of a private JSON file, as an endpoint keeps its key."""

    path: Path
    name: str


@dataclass(frozen=True)
class Stored:
    """A connection; ``kind`` is the name of promptflow's class for it."""

    name: str
    kind: str
    configs: dict[str, str]
    secrets: dict[str, str] = field(repr=False)


def keep(
    name: str,
    configs: Mapping[str, str],
    secrets: Mapping[str, str | InFile],
    kind: str = "CustomConnection",
) -> bool:
    """Create or update the connection ``name``; False when it was so already.

    A secret given as text goes to the keyring, one in a file stays there.

    Raises:
        FixableError: The keyring cannot keep a secret.
    """
    places: dict[str, dict[str, str]] = {}
    is_new = False
    for key, secret in secrets.items():
        if isinstance(secret, InFile):
            places[key] = {"file": str(secret.path), "field": secret.name}
        else:
            places[key] = {"keyring": f"{name}.{key}"}
            is_new |= _keep_in_keyring(f"{name}.{key}", secret)
    entry = {"kind": kind, "configs": dict(configs), "secrets": places}
    path = _file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        content = read_json(path) or {}
        if content.get(name) != entry:
            write_private(path, content | {name: entry})
            is_new = True
    return is_new


def keep_in_both(
    connections: Mapping[str, dict[str, str]], key: str, place: InFile | None = None
) -> tuple[bool, str]:
    """Create or update custom connections in promptflow's store, where it is installed, and here.

    Args:
        connections: The configs of each by its name; values are text.
        key: The secret ``key`` of all of them.
        place: The place where the key stays, if there is one.

    Returns:
        Whether something changed, and a phrase on where the key is kept.

    Raises:
        FixableError: The keyring cannot keep a secret.
    """
    changed = False
    if installed := promptflow_store.is_promptflow_installed():
        changed = promptflow_store.keep_connections(connections, {"key": key})
    secrets = {"key": place or key}
    new = [keep(name, configs, secrets) for name, configs in connections.items()]
    in_file = place if not installed else None
    kept = f"in {in_file.path}" if in_file else f"by {promptflow_store.keyring_name()}"
    alone = "" if installed else " (for engine plain alone: promptflow is not installed)"
    return changed or any(new), f"kept {kept}{alone}"


def drop_in_both(is_stale: Callable[[str, dict[str, str]], bool]) -> list[str]:
    """Delete the custom connections whose name and configs are stale; returns their names."""
    path, stale = _file(), set[str]()
    if promptflow_store.is_promptflow_installed():
        stale |= set(promptflow_store.drop_connections(is_stale))
    if not path.is_file():
        return sorted(stale)
    with FileLock(path.with_suffix(".lock")):
        content = read_json(path) or {}
        custom = {n: e["configs"] for n, e in content.items() if e["kind"] == "CustomConnection"}
        gone = {name for name, configs in custom.items() if is_stale(name, configs)}
        if gone:
            write_private(path, {n: e for n, e in content.items() if n not in gone})
    return sorted(stale | gone)


def read(name: str) -> Stored:
    """The connection ``name`` with its secrets.

    Raises:
        FixableError: There is none, or a secret is not where it was.
    """
    content = entry(name)
    secrets = {key: _read_secret(name, key, place) for key, place in content["secrets"].items()}
    return Stored(name, content["kind"], content["configs"], secrets)


def entry(name: str) -> dict[str, Any]:
    """The connection ``name`` as the file has it: no secret, but where each is.

    Raises:
        FixableError: There is none.
    """
    content = read_json(_file()) or {}
    if name not in content:
        there = ", ".join(names()) or "none"
        raise FixableError(f"no connection {name} in {_file()} (there: {there})", _CONNECT)
    return dict(content[name])


def names() -> list[str]:
    """The connections there are."""
    return sorted(read_json(_file()) or {})


def _read_secret(name: str, key: str, place: Mapping[str, str]) -> str:
    variable = re.sub(r"\W", "_", f"{name}_{key}").upper()
    secret: Any = os.environ.get(variable)
    if not secret and "file" in place:
        secret = (read_json(Path(place["file"])) or {}).get(place["field"])
    elif not secret:
        import keyring

        secret = keyring.get_password(_SERVICE, place["keyring"])
    if not isinstance(secret, str) or not secret:
        where = place.get("file", "the keyring")
        what = f"the {key} of connection {name} is not in {where}"
        raise FixableError(what, f"{_CONNECT}, or set {variable}")
    return secret


def _keep_in_keyring(user: str, secret: str) -> bool:
    import keyring

    promptflow_store.check_keyring()
    if keyring.get_password(_SERVICE, user) == secret:
        return False
    keyring.set_password(_SERVICE, user, secret)
    return True


def _file() -> Path:
    return registry_folder().parent / FILE
