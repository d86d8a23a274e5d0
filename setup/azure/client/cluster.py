"""The cluster that fine-tunes, as it is."""

from __future__ import annotations

from typing import Any

from setup.azure.client.session import AzureSession


def find_cluster(session: AzureSession) -> dict[str, Any] | None:
    """The recipe's cluster as Azure describes it, None where there is none."""
    name = session.recipe.finetune.compute.name
    path = f"{session.workspace_path()}/computes/{name}"
    return session.find(f"looking for cluster {name}", path)
