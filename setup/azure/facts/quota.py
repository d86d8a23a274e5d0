"""Cores: how many the recipe needs of which VM family, how many there are, and asking for more.

Dedicated cores of Azure ML are counted apart from those of ordinary machines, per region and VM
family; GPU families start at zero (https://learn.microsoft.com/azure/machine-learning/how-to-manage-quotas).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

from setup.azure.client.explain import code_and_message
from setup.azure.client.session import AzureSession
from setup.azure.facts import dated_table
from setup.common.errors import FixableError

_PATIENCE = 60.0  # seconds: what a machine decides is decided by then, the rest a person decides
TOTAL = "TotalDedicatedCores"  # Azure's name for what all families of a region share
_TICKET = (
    "open a support ticket (https://portal.azure.com, Help + support, Service and subscription "
    "limits, Machine Learning service), or --set azure.location=REGION, or another SKU"
)


@dataclass(frozen=True)
class Size:
    """A VM size that Azure ML offers in the recipe's region."""

    name: str
    family: str
    cores: int
    gpus: int


@dataclass(frozen=True)
class Demand:
    """Cores of one family: what ``purpose`` needs, what the region has.

    ``family`` is ``TotalDedicatedCores`` where the family has enough and the region has not;
    ``held`` is the part of ``used`` that already is this purpose's own; a negative ``limit`` is
    none.
    """

    purpose: str
    sku: str
    family: str
    needed: int
    used: int
    limit: int
    held: int

    @property
    def enough(self) -> bool:
        """Tell whether there are as many cores as it needs."""
        return self.limit < 0 or self.needed <= self.limit - self.used + self.held

    @property
    def sufficient_limit(self) -> int:
        """A limit that is enough: a new version is deployed beside the one that answers."""
        return self.used + min(self.needed, max(0, 2 * self.needed - self.held))

    def line(self) -> str:
        """For people."""
        held = f" ({self.held} by itself)" if self.held else ""
        limit = self.limit if self.limit >= 0 else "any number"
        return (
            f"{self.purpose} needs {self.needed} cores of {self.family} for {self.sku}: "
            f"{self.used} of {limit} are in use{held}"
        )

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {**asdict(self), "enough": self.enough}


def endpoint_cores(sku: str, cores: int, instances: int) -> int:
    """Return what a deployment of ``instances`` machines takes of the quota, with the reserve."""
    table = dated_table("quota")["no_reserve"]
    exempt = any(re.fullmatch(row, sku, re.IGNORECASE) for row in table)
    machines = instances if exempt else math.ceil(round(1.2 * instances, 6))
    return machines * cores


def serves(sku: str) -> bool:
    """Tell whether managed endpoints take ``sku``, by a dated list: clusters take more."""
    listed = dated_table("quota")["managed_endpoints"]
    return any(re.fullmatch(row, sku, re.IGNORECASE) for row in listed)


def region_sizes(session: AzureSession) -> dict[str, Size]:
    """Return the VM sizes of Azure ML in the recipe's region, by lower-case name."""
    with session.errors(f"listing the VM sizes of {session.recipe.azure.location}"):
        listed = session.arm.list(f"{_location(session)}/vmSizes")
    return {
        row["name"].lower(): Size(row["name"], row["family"], row["vCPUs"], row.get("gpus") or 0)
        for row in listed
    }


def find_size(session: AzureSession, sizes: dict[str, Size], sku: str) -> Size:
    """Return the size of ``sku``, an error where the recipe's region does not offer it."""
    if size := sizes.get(sku.lower()):
        return size
    raise FixableError(
        f"region {session.recipe.azure.location} does not offer {sku} to this subscription",
        "--set azure.location=REGION, one that does, or another SKU",
    )


def cluster_gpus(session: AzureSession) -> int:
    """Look up how many GPUs each machine of the cluster has."""
    return find_size(session, region_sizes(session), session.recipe.finetune.compute.sku).gpus


def demands(session: AzureSession, sizes: dict[str, Size]) -> list[Demand]:
    """Return what fine-tuning and the endpoint need, one after the other."""
    with session.errors(f"listing the quota of {session.recipe.azure.location}"):
        usage = Usage(session.arm.list(f"{_location(session)}/usages"))
    compute, endpoint = session.recipe.finetune.compute, session.recipe.endpoint
    size = find_size(session, sizes, compute.sku)
    cluster = session.find_cluster() or {}
    held = _cores_of(cluster.get("vmSize"), sizes, size) * int(cluster.get("currentNodeCount") or 0)
    tuning = _demand("fine-tuning", size, compute.nodes * size.cores, held, usage)
    size = find_size(session, sizes, endpoint.sku)
    needed, held = endpoint_cores(size.name, size.cores, endpoint.most_instances), 0
    for deployment in _deployments(session):
        sku = str(deployment["properties"].get("instanceType"))
        instances = int((deployment.get("sku") or {}).get("capacity") or 0)
        held += endpoint_cores(sku, _cores_of(sku, sizes, size), instances)
    return [tuning, _demand("the endpoint", size, needed, held, usage)]


def _demand(purpose: str, size: Size, needed: int, held: int, usage: Usage) -> Demand:
    """Return the family's cores, or the region's where those are what is short."""
    listed = [
        Demand(purpose, size.name, name, needed, *usage.of(name), held)
        for name in (size.family, TOTAL)
    ]
    return next((demand for demand in listed if not demand.enough), listed[0])


def _deployments(session: AzureSession) -> list[dict[str, Any]]:
    endpoint = session.names.endpoint
    with session.errors(f"reading the deployments of {endpoint}"):
        path = f"{session.workspace_path()}/onlineEndpoints/{endpoint}/deployments"
        return session.arm.children(path)


def _cores_of(sku: str | None, sizes: dict[str, Size], size: Size) -> int:
    """Return the cores of a machine that is there, if they count for the family of ``size``."""
    has = sizes.get((sku or "").lower())
    return has.cores if has and has.family == size.family else 0


def request_quota(session: AzureSession, family: str, limit: int) -> str:
    """Ask for ``limit`` cores of ``family`` in the recipe's region; what came of it, as a line."""
    from azure.core.exceptions import HttpResponseError

    what = f"{limit} cores of {family} in {session.recipe.azure.location}"
    properties = {
        "limit": {"limitObjectType": "LimitValue", "value": limit},
        "name": {"value": family},
        "resourceType": "dedicated",
    }
    path = f"{_location(session)}/providers/Microsoft.Quota/quotas/{quote(family)}"
    with session.errors(f"asking for {what}"):
        try:
            poller = session.arm.begin("PUT", path, {"properties": properties})
            poller.wait(_PATIENCE)
            if poller.done():
                poller.result()
                return f"granted: {what}"
        except HttpResponseError as error:
            if error.status_code in (401, 403, 429) or (error.status_code or 0) >= 500:
                raise
            code, message = code_and_message(error)
            raise FixableError(f"Azure refused {what} ({code}): {message}", _TICKET) from None
    return f"asked for {what}: it is being decided, days if a person has to; then: {_TICKET}"


def _location(session: AzureSession) -> str:
    """Return the id of the recipe's region as Azure ML sees it."""
    provider = "providers/Microsoft.MachineLearningServices"
    location = session.recipe.azure.location
    return f"/subscriptions/{session.subscription_id}/{provider}/locations/{location}"


class Cores(NamedTuple):
    """Cores in use, and how many may be: negative where Azure sets no limit."""

    used: int
    limit: int


class Usage:
    """The dedicated cores of a region by its list of usages.

    Args:
        rows: As Azure ML lists them. Dedicated and low-priority cores of a family come under one
            name: only ``type`` tells them apart, ``…/vmFamily/dedicatedCores/usages`` from
            ``…/lowPriorityCores/usages``. Rows of one workspace have its id. A count is null while
            the subscription's offer is not active.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._cores = {_key(TOTAL): Cores(0, -1)}
        for row in rows:
            kind, path = str(row.get("type", "")).lower(), str(row.get("id", "")).lower()
            if "lowpriority" not in kind and "/workspaces/" not in path:
                cores = Cores(row.get("currentValue") or 0, row.get("limit") or 0)
                self._cores[_key(row["name"]["value"])] = cores

    def of(self, family: str) -> Cores:
        """Return the cores of a VM family, or ``TOTAL``; none where the region does not list it."""
        return self._cores.get(_key(family), Cores(0, 0))


def _key(family: str) -> str:
    """Its case, and blanks in it, differ between the lists of sizes and of usages."""
    return "".join(family.lower().split())
