"""Names of what Azure wants named, the same for the same subscription and group every time.

Storage accounts, key vaults, container registries and endpoints share one name space with every
customer, so a name of ours ends in a token that no other group has.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from dataclasses import dataclass

from setup.recipe.azure import AzureRecipe

_TOKEN = 8  # 40 bits of a hash: no two groups of this world are likely to share one
_ROLE_ASSIGNMENTS = uuid.UUID("0e2a3d39-5d1c-4a2c-9f6d-54a3b7f1c6c8")  # a name space of our own


@dataclass(frozen=True)
class Names:
    """Names that the recipe gives, and those that it leaves to be derived."""

    group: str
    workspace: str
    hub: str
    project: str
    storage: str
    key_vault: str
    registry: str
    insights: str
    logs: str
    identity: str
    endpoint: str
    compute: str


def derive_names(recipe: AzureRecipe, subscription_id: str) -> Names:
    """The names of everything that ``recipe`` makes in ``subscription_id``."""
    azure = recipe.azure
    token = unique_token(subscription_id, azure.resource_group)
    return Names(
        group=azure.resource_group,
        workspace=azure.workspace,
        hub=azure.hub,
        project=azure.project,
        storage=_last(azure.existing.storage) or azure.storage or f"phi{token}",
        key_vault=_last(azure.existing.key_vault) or azure.key_vault or f"phi-{token}",
        registry=_last(azure.existing.registry) or azure.registry or f"phi{token}",
        insights=_last(azure.existing.insights) or f"{azure.workspace}-insights",
        logs=f"{azure.workspace}-logs",
        identity=f"{azure.workspace}-identity",
        endpoint=recipe.endpoint.name or f"{recipe.name[: 31 - _TOKEN].rstrip('-')}-{token}",
        compute=recipe.finetune.compute.name,
    )


def _last(id_: str) -> str:
    return id_.rpartition("/")[2]


def unique_token(subscription_id: str, group: str) -> str:
    """Eight lower-case letters and digits that stand for a group of a subscription."""
    digest = hashlib.sha256(f"{subscription_id}/{group}".lower().encode()).digest()
    return base64.b32encode(digest).decode().lower()[:_TOKEN]


def role_assignment_name(scope: str, principal_id: str, role_id: str) -> str:
    """The GUID that names a role assignment, so that a second run finds the first one's."""
    return str(uuid.uuid5(_ROLE_ASSIGNMENTS, f"{scope}/{principal_id}/{role_id}".lower()))
