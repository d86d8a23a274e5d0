"""Cores and sizes of a location, and the requests for more of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.azure.fake.arm import hold_to
from tests.azure.fake.messages import AzureError, Reply, Request
from tests.azure.fake.operations import headers_of
from tests.azure.fake.router import ARM, Routes
from tests.azure.fake.subscription import LOCATIONS, SIZES, SUBSCRIPTION

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

_ML = "/subscriptions/{sub}/providers/Microsoft.MachineLearningServices/locations/{location}"

routes = Routes()


def _known(location: str) -> str:
    if location.lower() not in LOCATIONS:
        message = f"The provided location '{location}' is not available."
        raise AzureError(400, "LocationNotAvailableForResourceType", message)
    return location.lower()


@routes.on("GET", ARM, f"{_ML}/usages")
def list_usages(azure: FakeAzure, request: Request, sub: str, location: str) -> Reply:
    base = f"{_ML.format(sub=sub, location=_known(location))}/usages"
    found = []
    for family, limit in azure.subscription.limits.items():
        used = azure.subscription.in_use(family)
        found.append(_usage(base, family, "dedicatedCores", used, limit))
        found.append(_usage(base, family, "lowPriorityCores", 0, -1))  # under the same name
    return Reply(body={"value": found})


def _usage(base: str, family: str, cores: str, used: int, limit: int) -> dict[str, Any]:
    return {
        "id": f"{base}/{family}",
        "type": f"Microsoft.MachineLearningServices/vmFamily/{cores}/usages",
        "unit": "Count",
        "currentValue": used,
        "limit": limit,
        "name": {"value": family, "localizedValue": f"{family} {cores}"},
    }


@routes.on("GET", ARM, f"{_ML}/vmSizes")
def list_sizes(azure: FakeAzure, request: Request, sub: str, location: str) -> Reply:
    _known(location)
    found = [
        {
            "name": size.name,
            "family": size.family,
            "vCPUs": size.cores,
            "gpus": size.gpus,
            "osVhdSizeMB": 1047552,
            "maxResourceVolumeMB": 65536,
            "memoryGB": size.memory,
            "lowPriorityCapable": True,
            "premiumIO": True,
            "supportedComputeTypes": ["AmlCompute", "ComputeInstance"],
        }
        for size in SIZES.values()
    ]
    return Reply(body={"value": found})


_QUOTA = f"{_ML}/providers/Microsoft.Quota/quotas/{{family}}"


def _described(azure: FakeAzure, path: str, family: str) -> dict[str, Any]:
    limit = {"limitObjectType": "LimitValue", "value": azure.subscription.limits[family]}
    return {
        "id": path,
        "name": family,
        "type": "Microsoft.Quota/Quotas",
        "properties": {"limit": limit, "name": {"value": family}, "isQuotaApplicable": True},
    }


def _family(azure: FakeAzure, name: str) -> str:
    known = {family.lower(): family for family in azure.subscription.limits}
    if name.lower() not in known:
        raise AzureError(400, "InvalidResourceName", f"{name} is no family of VM sizes")
    return known[name.lower()]


@routes.on("GET", ARM, _QUOTA)
def get_quota(azure: FakeAzure, request: Request, family: str, **_: str) -> Reply:
    return Reply(body=_described(azure, request.path, _family(azure, family)))


@routes.on("PUT|PATCH", ARM, _QUOTA)
def request_quota(
    azure: FakeAzure, request: Request, location: str, family: str, **_: str
) -> Reply:
    checked = azure.contracts.check_request(
        request.method, request.path, request.api_version, request.body
    )
    request.contract = hold_to(azure, checked, f"Microsoft.Quota/quotas@{request.api_version}")
    name = _family(azure, family)
    wanted = int(request.body["properties"]["limit"]["value"])
    answer = azure.subscription.quota_answer
    error = None
    if answer == "ticket":
        message = "Request failed. Please create a support ticket to get the quota you ask for."
        error = AzureError(400, "ContactSupport", message)
    elif answer == "refused":
        message = f"Quota of {wanted} for {name} is not available in {location}."
        error = AzureError(400, "QuotaNotAvailableForResource", message)

    def finish() -> None:
        if error is None:
            azure.subscription.limits[name] = wanted

    operation = azure.operations.start(f"/subscriptions/{SUBSCRIPTION}", finish, error)
    headers = headers_of(operation, request.api_version, "results")
    return Reply(202, _described(azure, request.path, name), headers)
