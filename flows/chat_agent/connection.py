"""A connection as ``python -m setup connect`` keeps it, or as a container is told it.

The variables ``PHI_ENDPOINT``, ``PHI_KEY``, ``PHI_CONTRACT`` and so on come before the file.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import platformdirs

from flows.chat.scoring_client import ConfigurationError


def connection_values(name: str) -> dict[str, str]:
    """The keys of the connection ``name``, its secret ``key`` read from where the file says.

    Raises:
        ConfigurationError: There is no such connection.
    """
    home = os.environ.get("FINETUNE_PHI_HOME") or platformdirs.user_state_path("finetune-phi")
    file, prefix = Path(home) / "connections.json", re.sub(r"\W", "_", name).upper() + "_"
    told = {
        k.removeprefix(prefix).lower(): v for k, v in os.environ.items() if k.startswith(prefix)
    }
    entry = _read(file).get(name, {"configs": {}, "secrets": {}})
    kept = {
        key: _read(Path(place["file"])).get(place["field"], "")
        for key, place in entry["secrets"].items()
        if "file" in place
    }
    values: dict[str, str] = {**entry["configs"], **kept, **told}
    elsewhere = [key for key in entry["secrets"] if not values.get(key)]
    if values and elsewhere:
        what = f"the {elsewhere[0]} of connection {name} is where this environment cannot read it"
        raise ConfigurationError(what, str(file), f"set {prefix}{elsewhere[0].upper()}")
    if not values:
        fix = f"python -m setup connect, or set {prefix}ENDPOINT and {prefix}KEY"
        raise ConfigurationError(f"there is no connection {name}", str(file), fix)
    return values


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError):
        return {}
