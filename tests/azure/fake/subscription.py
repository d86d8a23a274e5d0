"""The subscription: providers, locations, VM sizes, quota, resource groups and what is in them."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.azure.fake.kinds import KINDS, Kind
from tests.azure.fake.login import TENANT
from tests.azure.fake.messages import AzureError, Reply, Request
from tests.azure.fake.operations import PACE
from tests.azure.fake.router import ARM, Routes

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

SUBSCRIPTION = "44444444-4444-4444-8444-444444444444"
GROUP = "microsoft.resources/resourcegroups"
PROVIDERS = (
    "Microsoft.Authorization",
    "Microsoft.ContainerRegistry",
    "Microsoft.Insights",
    "Microsoft.KeyVault",
    "Microsoft.MachineLearningServices",
    "Microsoft.ManagedIdentity",
    "Microsoft.OperationalInsights",
    "Microsoft.Quota",
    "Microsoft.Resources",
    "Microsoft.Storage",
)
LOCATIONS = {"eastus2": "East US 2", "swedencentral": "Sweden Central", "westus3": "West US 3"}

routes = Routes()


@dataclass(frozen=True)
class Size:
    """A VM size of Azure ML; ``reserve`` is the part that endpoints hold back for upgrades."""

    name: str
    family: str
    cores: int
    memory: float
    gpus: int = 0
    reserve: float = 0.2


# https://learn.microsoft.com/azure/machine-learning/reference-managed-online-endpoints-vm-sku-list
SIZES = {
    size.name.lower(): size
    for size in (
        Size("Standard_DS3_v2", "standardDSv2Family", 4, 14),
        Size("Standard_D4s_v3", "standardDSv3Family", 4, 16),
        Size("Standard_E4s_v3", "standardESv3Family", 4, 32),
        Size("Standard_F4s_v2", "standardFSv2Family", 4, 8),
        Size("Standard_F8s_v2", "standardFSv2Family", 8, 16),
        Size("Standard_NC4as_T4_v3", "Standard NCASv3_T4 Family", 4, 28, 1),
        Size("Standard_NC24ads_A100_v4", "standardNCADSA100v4Family", 24, 220, 1, 0.0),
        Size("Standard_NC48ads_A100_v4", "standardNCADSA100v4Family", 48, 440, 2, 0.0),
        Size("Standard_NC40ads_H100_v5", "standardNCADSH100v5Family", 40, 320, 1, 0.0),
    )
}


class Subscription:
    """What an administrator sets up.

    Attributes:
        providers: Resource provider to whether it is registered.
        limits: Cores of each VM family that may be in use; ``used`` those that are, by whom.
        quota_answer: What a quota request gets: ``granted``, ``refused`` or ``ticket``.
        actions: What the caller may do, and ``not_actions`` what not, as Azure lists it.
        soft_deleted: Ids of key vaults and workspaces that were deleted but not purged.
    """

    def __init__(self) -> None:
        self.name = "Pay-as-you-go"
        self.state = "Enabled"
        self.offer = "PayAsYouGo_2014-09-01"
        self.tasks = True  # whether registries build images for this offer
        self.tenant = TENANT
        self.others: list[str] = []  # further subscriptions of the login
        self.providers = dict.fromkeys(PROVIDERS, True)
        self.limits = {size.family: 96 for size in SIZES.values()}
        self.used: dict[str, tuple[str, int]] = {}
        self.quota_answer = "granted"
        self.actions, self.not_actions = ["*"], list[str]()
        self.soft_deleted: dict[str, dict[str, Any]] = {}

    def principal(self, owner: str) -> str:
        """The object id of what stands for a resource in the directory."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"principal of {owner.lower()}"))

    def in_use(self, family: str) -> int:
        """Cores of a family that are in use."""
        return sum(cores for name, cores in self.used.values() if name.lower() == family.lower())

    def take_cores(self, owner: str, size: Size, instances: int) -> None:
        """Take the cores of an endpoint's deployment, with the reserve for upgrades.

        Raises:
            AzureError: 400 OutOfQuota.
        """
        wanted = math.ceil((1 + size.reserve) * instances) * size.cores
        self.used.pop(owner.lower(), None)
        in_use, limit = self.in_use(size.family), self.limits.get(size.family, 0)
        if in_use + wanted > limit:
            message = (
                f"Not enough quota available for {size.name} in this location. "
                f"Current usage/limit: "
                f"{in_use}/{limit}. Additional needed: {wanted}."
            )
            raise AzureError(400, "OutOfQuota", message)
        self.used[owner.lower()] = (size.family, wanted)


KINDS[GROUP] = Kind(slow_delete=True)


def size_of(name: str) -> Size:
    """The VM size.

    Raises:
        AzureError: 400, there is none of that name (any more).
    """
    if name.lower() not in SIZES:
        raise AzureError(400, "InvalidVmSize", f"The VM size {name} is not supported.")
    return SIZES[name.lower()]


def _described(azure: FakeAzure) -> dict[str, Any]:
    return {
        "id": f"/subscriptions/{SUBSCRIPTION}",
        "subscriptionId": SUBSCRIPTION,
        "tenantId": azure.subscription.tenant,
        "displayName": azure.subscription.name,
        "state": azure.subscription.state,
        "subscriptionPolicies": {"quotaId": azure.subscription.offer, "spendingLimit": "Off"},
    }


@routes.on("GET", ARM, "/subscriptions")
def list_subscriptions(azure: FakeAzure, request: Request) -> Reply:
    described = _described(azure) if _is_of_tenant(azure, request) else None
    others = [{**_described(azure), "subscriptionId": id_} for id_ in azure.subscription.others]
    return Reply(body={"value": [*filter(None, [described]), *others]})


def _is_of_tenant(azure: FakeAzure, request: Request) -> bool:
    return azure.login.tenant_of(request) == azure.subscription.tenant


def refuse_other_tenant(azure: FakeAzure, request: Request) -> None:
    """Turn away a token of another tenant than the subscription's.

    Raises:
        AzureError: 401.
    """
    if not request.path.lower().startswith("/subscriptions/") or _is_of_tenant(azure, request):
        return
    there, wanted = azure.login.tenant_of(request), azure.subscription.tenant
    message = (
        f"The access token is from the wrong issuer 'https://sts.windows.net/{there}/'. It must "
        f"match the tenant 'https://sts.windows.net/{wanted}/' associated with this subscription. "
        f"Please use the authority (URL) 'https://login.windows.net/{wanted}' to get the token."
    )
    raise AzureError(401, "InvalidAuthenticationTokenTenant", message)


@routes.on("GET", ARM, "/subscriptions/{sub}")
def get_subscription(azure: FakeAzure, request: Request, sub: str) -> Reply:
    if sub.lower() != SUBSCRIPTION:
        message = f"The subscription '{sub}' could not be found."
        raise AzureError(404, "SubscriptionNotFound", message)
    return Reply(body=_described(azure))


def _provider(azure: FakeAzure, name: str) -> dict[str, Any]:
    known = {provider.lower(): provider for provider in azure.subscription.providers}
    if name.lower() not in known:
        raise AzureError(404, "InvalidResourceNamespace", f"{name} is no resource provider")
    provider = known[name.lower()]
    state = "Registered" if azure.subscription.providers[provider] else "NotRegistered"
    types = [{"resourceType": "workspaces", "locations": [*LOCATIONS.values()], "apiVersions": []}]
    return {
        "id": f"/subscriptions/{SUBSCRIPTION}/providers/{provider}",
        "namespace": provider,
        "registrationState": state,
        "resourceTypes": types if provider == "Microsoft.MachineLearningServices" else [],
    }


@routes.on("GET", ARM, "/subscriptions/{sub}/providers")
def list_providers(azure: FakeAzure, request: Request, sub: str) -> Reply:
    return Reply(body={"value": [_provider(azure, name) for name in azure.subscription.providers]})


@routes.on("POST", ARM, "/subscriptions/{sub}/providers/{name}/register")
def register_provider(azure: FakeAzure, request: Request, sub: str, name: str) -> Reply:
    azure.subscription.providers[_provider(azure, name)["namespace"]] = True
    return Reply(body=_provider(azure, name), headers=dict(PACE))


@routes.on("GET", ARM, "/subscriptions/{sub}/resourcegroups/{group}/resources")
def list_resources(azure: FakeAzure, request: Request, sub: str, group: str) -> Reply:
    found = azure.store.need(f"/subscriptions/{sub}/resourceGroups/{group}")
    return Reply(body={"value": _top_level(azure, f"{found.id.key}/")})


def _top_level(azure: FakeAzure, prefix: str) -> list[dict[str, Any]]:
    """Resources as a group lists them: no deployments, no role assignments, no children."""
    shown = ("id", "name", "type", "location", "kind", "sku", "tags", "identity", "managedBy")
    return [
        {key: resource.body[key] for key in shown if key in resource.body}
        for resource in azure.store
        if resource.id.key.startswith(prefix)
        and resource.kind.count("/") == 1
        and not resource.kind.startswith(("microsoft.resources/", "microsoft.authorization/"))
    ]
