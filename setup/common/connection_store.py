"""Our own store of connections, for engines that do without promptflow.

A file that only its owner can read holds what may be shown, and of each secret the place where it
is: a field of another private file, or the keyring. The variable ``NAME_KEY`` comes before both:
``PHI_TUNED_KEY`` is the secret ``key`` of connection ``phi-tuned``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from setup.common.errors import FixableError
from setup.common.paths import read_json, registry_folder, write_private
from setup.common.promptflow_store import check_keyring

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
        import keyring  # noqa: PLC0415 - asks the desktop's services, which takes a while

        secret = keyring.get_password(_SERVICE, place["keyring"])
    if not isinstance(secret, str) or not secret:
        where = place.get("file", "the keyring")
        what = f"the {key} of connection {name} is not in {where}"
        raise FixableError(what, f"{_CONNECT}, or set {variable}")
    return secret


def _keep_in_keyring(user: str, secret: str) -> bool:
    import keyring  # noqa: PLC0415 - asks the desktop's services, which takes a while

    check_keyring()
    if keyring.get_password(_SERVICE, user) == secret:
        return False
    keyring.set_password(_SERVICE, user, secret)
    return True


def _file() -> Path:
    return registry_folder().parent / FILE
