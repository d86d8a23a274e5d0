"""One login and every client of a run in Azure.

``AzureSession(recipe)`` signs in when it is first used and makes each client once. Wrap calls of
the clients in ``session.errors("what you were doing")``: every exception of the SDKs becomes one
FixableError, so that every function of setup/azure raises it where Azure refuses or cannot be
asked. Nothing here keeps a secret anywhere but in memory.
"""

from __future__ import annotations

import base64
import json
import logging
import os
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from setup.azure.client import arm, explain, ownership, sign_in
from setup.azure.client.names import Names, derive_names
from setup.common.errors import FixableError
from setup.recipe.azure import AzureRecipe

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.core.credentials import TokenCredential
    from azure.storage.blob import ContainerClient

T = TypeVar("T")


class Principal(NamedTuple):
    """Who is signed in: the object id in the tenant, and what role assignments call its kind."""

    object_id: str
    kind: str  # "User" or "ServicePrincipal"


class AzureSession:
    """The clients of one recipe's subscription."""

    errors = staticmethod(explain.azure_errors)
    look_for = staticmethod(explain.look_for)
    is_forbidden = staticmethod(explain.is_forbidden)

    def __init__(self, recipe: AzureRecipe) -> None:
        self.recipe = recipe
        self._clients: dict[str, MLClient] = {}

    def renew(self) -> None:
        """Sign in anew: a credential gives out the token it has until that says it is over."""
        known = self.__dict__.get("subscription")
        self.__dict__ = AzureSession(self.recipe).__dict__
        if known:
            self.subscription = known

    @cached_property
    def credential(self) -> TokenCredential:
        """The login, of the recipe's tenant where that names one."""
        _be_quiet()
        sign_in.refuse_other_cloud()
        return sign_in.sign_in(self.recipe.azure.tenant)

    @cached_property
    def arm(self) -> arm.Arm:
        """Azure Resource Manager by path, for all but what azure-ai-ml does."""
        return arm.Arm(self.credential)

    @cached_property
    def subscription(self) -> dict[str, Any]:
        """The subscription: ``subscriptionId``, ``displayName``, ``tenantId``, ``state``,
        ``subscriptionPolicies.quotaId``; of the recipe, else AZURE_SUBSCRIPTION_ID, else the one
        that ``az account set`` chose, else the only enabled one of the login.
        """
        id_ = self.recipe.azure.subscription or os.environ.get("AZURE_SUBSCRIPTION_ID", "")
        with self.errors("finding the subscription"):
            if id_:
                subscription = self.arm.get(f"/subscriptions/{id_}")
            else:
                subscription = _only_one(self.arm.list("/subscriptions"))
        self._refuse_other_tenant(subscription)
        return subscription

    def _refuse_other_tenant(self, subscription: dict[str, Any]) -> None:
        tenant = self.recipe.azure.tenant
        if tenant and subscription.get("tenantId", "").lower() != tenant.lower():
            raise FixableError(
                f"subscription {subscription['subscriptionId']} is of tenant "
                f"{subscription.get('tenantId')}, the recipe says {tenant}",
                f"--set azure.tenant={subscription.get('tenantId')}, or another azure.subscription",
            )

    @property
    def subscription_id(self) -> str:
        """The subscription's id."""
        return str(self.subscription["subscriptionId"])

    @property
    def tenant_id(self) -> str:
        """The tenant the subscription belongs to."""
        return str(self.subscription["tenantId"])

    @cached_property
    def names(self) -> Names:
        """The names of everything that the recipe makes."""
        return derive_names(self.recipe, self.subscription_id)

    @property
    def group_id(self) -> str:
        """The resource id of the recipe's group, whether there is one or not."""
        return f"/subscriptions/{self.subscription_id}/resourceGroups/{self.group}"

    def workspace_path(self, name: str = "") -> str:
        """The resource id of the recipe's workspace, or a hub or project, there or not."""
        kind = "Microsoft.MachineLearningServices/workspaces"
        return f"{self.group_id}/providers/{kind}/{name or self.recipe.azure.workspace}"

    @property
    def group(self) -> str:
        """The recipe's resource group."""
        return self.recipe.azure.resource_group

    @cached_property
    def principal(self) -> Principal:
        """Who is signed in, read from the token that Azure gave."""
        with self.errors("signing in"):
            token = self.credential.get_token(arm.SCOPE).token
        claims = _claims(token)
        kind = "ServicePrincipal" if claims.get("idtyp") == "app" else "User"
        return Principal(claims["oid"], kind)

    def find(self, doing: str, path: str, api_version: str = "") -> dict[str, Any] | None:
        """Return the resource at ``path``, None where there is none."""
        return self.look_for(doing, self.arm.get, path, api_version)

    def find_group(self) -> dict[str, Any] | None:
        """Return the recipe's resource group, None where there is none."""
        return self.find(f"reading resource group {self.group}", self.group_id)

    def find_cluster(self, name: str = "") -> dict[str, Any] | None:
        """Return the properties of a cluster, of the recipe's that fine-tunes, None without one."""
        name = name or self.recipe.finetune.compute.name
        path = f"{self.workspace_path()}/computes/{name}"
        cluster = self.find(f"looking for cluster {name}", path)
        properties = (cluster or {}).get("properties") or {}
        return {**properties, **(properties.get("properties") or {})} if cluster else None

    @property
    def tags(self) -> dict[str, str]:
        """The tags of everything we make: the recipe's and our mark."""
        return {**self.recipe.azure.tags, ownership.TAG: ownership.MADE}

    def blob_container(self, url: str, name: str, **settings: Any) -> ContainerClient:
        """A container of the storage account at ``url``, asked with the login's own token."""
        from azure.storage.blob import ContainerClient

        return ContainerClient(url, name, self.credential, **settings, **arm.STORAGE_RETRIES)

    def ml(self, workspace: str = "") -> MLClient:
        """Azure ML of the recipe's workspace, or of a hub or project beside it."""
        name = workspace or self.recipe.azure.workspace
        return self._ml_client(resource_group_name=self.group, workspace_name=name)

    def ml_registry(self, registry: str) -> MLClient:
        """Azure ML of a registry that many subscriptions share, such as the model catalog's."""
        return self._ml_client(registry_name=registry)

    def _ml_client(self, **place: str) -> MLClient:
        from azure.ai.ml import MLClient

        key = str(place)
        if key not in self._clients:
            _be_quiet()  # again: importing it sets up loggers of its own
            settings = {"show_progress": False, "enable_telemetry": False, **place, **arm.RETRIES}
            self._clients[key] = MLClient(self.credential, self.subscription_id, **settings)
        return self._clients[key]


def signed_in(session: AzureSession, work: Callable[[AzureSession], T]) -> T:
    """Return what ``work`` returns, done once more from the start if its token was refused.

    ``work`` has to find what it did the first time.
    """
    try:
        return work(session)
    except FixableError as error:
        if explain.status_of(error) != explain.UNAUTHORIZED:
            raise
    session.renew()
    return work(session)


def _be_quiet() -> None:
    """Warnings of the SDKs would stand beside the one line that says what to do."""
    for name in ("azure", "azure.ai.ml"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _only_one(listed: list[dict[str, Any]]) -> dict[str, Any]:
    enabled = [subscription for subscription in listed if subscription.get("state") == "Enabled"]
    chosen = [row for row in enabled if row["subscriptionId"] == sign_in.cli_subscription()]
    if len(chosen or enabled) == 1:
        return (chosen or enabled)[0]
    if not enabled:
        raise FixableError("the login has no enabled subscription", "az login, as another user")
    names = ", ".join(
        f"{subscription['displayName']} ({subscription['subscriptionId']})"
        for subscription in enabled
    )
    raise FixableError(
        f"the login has {len(enabled)} subscriptions: {names}",
        "az account set --subscription ID, export AZURE_SUBSCRIPTION_ID=ID, or --set "
        "azure.subscription=ID",
    )


def _claims(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    decoded = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return dict(decoded)
