"""The cluster that fine-tunes, as it is."""

from __future__ import annotations

from typing import Any

from setup.azure.client.session import AzureSession, azure_errors


def find_cluster(session: AzureSession) -> dict[str, Any] | None:
    """The recipe's cluster as Azure describes it, None where there is none.

    Raises:
        FixableError: Azure cannot be asked.
    """
    name = session.recipe.finetune.compute.name
    with azure_errors(f"looking for cluster {name}"):
        return session.arm.find(f"{session.workspace_path()}/computes/{name}")
