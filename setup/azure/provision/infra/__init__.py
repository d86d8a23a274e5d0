"""The template of everything around the model, as ARM takes it.

main.bicep is the source and what ``azd`` deploys; main.json is the same, compiled. README.md says
what it makes, and what that costs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
# The key of a name in ``names`` and the parameter of the template that it becomes.
NAMES = {
    "storage": "storageName",
    "key_vault": "keyVaultName",
    "registry": "registryName",
    "logs": "logsName",
    "insights": "insightsName",
    "identity": "identityName",
    "workspace": "workspaceName",
    "hub": "hubName",
    "project": "projectName",
    "compute": "computeName",
}


def template() -> dict[str, Any]:
    """The compiled template, for a deployment into a resource group."""
    content: dict[str, Any] = json.loads((FOLDER / "main.json").read_text(encoding="utf-8"))
    return content


def template_parameters(names: Mapping[str, str], **values: Any) -> dict[str, dict[str, Any]]:
    """The parameters of ``template()`` in ARM's form; main.bicep describes each.

    What is not in ``names``, by keys of ``NAMES``, the template names after the resource group.
    """
    if unknown := set(names) - set(NAMES):
        raise ValueError(f"the template has no names {sorted(unknown)}, but {sorted(NAMES)}")
    values |= {NAMES[key]: name for key, name in names.items() if name}
    return {name: {"value": value} for name, value in values.items()}
