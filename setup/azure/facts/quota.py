"""Cores: how many the recipe needs of which VM family, how many there are, and asking for more.

Dedicated cores of Azure ML are counted apart from those of ordinary machines, per region and VM
family; GPU families start at zero (https://learn.microsoft.com/azure/machine-learning/how-to-manage-quotas).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from setup.azure.client.cluster import find_cluster
from setup.azure.client.explain import code_and_message
from setup.azure.client.names import derive_names
from setup.azure.client.session import AzureSession, azure_errors
from setup.azure.facts.usage import TOTAL, Usage
from setup.common.errors import FixableError

_TABLE = Path(__file__).with_name("quota.yaml")
_PATIENCE = 60.0  # seconds: what a machine decides is decided by then, the rest a person decides
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
    exempt = any(re.fullmatch(row, sku, re.IGNORECASE) for row in _table()["no_reserve"])
    machines = instances if exempt else math.ceil(round(1.2 * instances, 6))
    return machines * cores


def region_sizes(session: AzureSession) -> dict[str, Size]:
    """The VM sizes of Azure ML in the recipe's region, by lower-case name.

    Raises:
        FixableError: Azure cannot be asked, or knows no such region.
    """
    location = session.recipe.azure.location
    with azure_errors(f"listing the VM sizes of {location}"):
        listed = session.arm.list(f"{_location(session)}/vmSizes")
    return {
        row["name"].lower(): Size(row["name"], row["family"], row["vCPUs"], row.get("gpus") or 0)
        for row in listed
    }


def find_size(session: AzureSession, sizes: dict[str, Size], sku: str) -> Size:
    """The size of ``sku``.

    Raises:
        FixableError: The recipe's region does not offer it to Azure ML.
    """
    location = session.recipe.azure.location
    if size := sizes.get(sku.lower()):
        return size
    raise FixableError(
        f"region {location} does not offer {sku} to this subscription",
        "--set azure.location=REGION, one that does, or another SKU",
    )


def demands(session: AzureSession, sizes: dict[str, Size]) -> list[Demand]:
    """Return what fine-tuning and the endpoint need, one after the other.

    Raises:
        FixableError: Azure cannot be asked, or a SKU is not offered.
    """
    usage = _usage(session)
    return [
        _demand("fine-tuning", _finetune_needs(session, sizes), usage),
        _demand("the endpoint", _endpoint_needs(session, sizes), usage),
    ]


def request_quota(session: AzureSession, family: str, limit: int) -> str:
    """Ask for ``limit`` cores of ``family`` in the recipe's region; what came of it, as a line.

    Raises:
        FixableError: Refused, or left to a support ticket; Azure cannot be asked.
    """
    from azure.core.exceptions import HttpResponseError  # noqa: PLC0415 - slow

    location = session.recipe.azure.location
    what = f"{limit} cores of {family} in {location}"
    with azure_errors(f"asking for {what}"):
        try:
            decided = _ask(session, family, limit)
        except HttpResponseError as error:
            if error.status_code in (401, 403, 429) or (error.status_code or 0) >= 500:
                raise
            code, message = code_and_message(error)
            raise FixableError(f"Azure refused {what} ({code}): {message}", _TICKET) from None
    if decided:
        return f"granted: {what}"
    return f"asked for {what}: it is being decided, days if a person has to; then: {_TICKET}"


def _ask(session: AzureSession, family: str, limit: int) -> bool:
    from azure.mgmt.quota import models  # noqa: PLC0415 - azure is slow to import

    request = models.CurrentQuotaLimitBase(
        properties=models.QuotaProperties(
            limit=models.LimitObject(value=limit),
            name=models.ResourceName(value=family),
            resource_type="dedicated",
        )
    )
    poller = session.quota.quota.begin_create_or_update(
        family, _location(session).removeprefix("/"), request
    )
    poller.wait(_PATIENCE)
    if poller.done():
        poller.result()
    return poller.done()


def _usage(session: AzureSession) -> Usage:
    location = session.recipe.azure.location
    with azure_errors(f"listing the quota of {location}"):
        return Usage(session.arm.list(f"{_location(session)}/usages"))


def _location(session: AzureSession) -> str:
    """The id of the recipe's region as Azure ML sees it."""
    provider = "providers/Microsoft.MachineLearningServices"
    location = session.recipe.azure.location
    return f"/subscriptions/{session.subscription_id}/{provider}/locations/{location}"


@dataclass(frozen=True)
class _Needs:
    size: Size
    needed: int
    held: int


def _demand(purpose: str, needs: _Needs, usage: Usage) -> Demand:
    """The family's cores, or the region's where those are what is short."""
    size = needs.size
    rows = [(size.family, usage.of(size.family)), (TOTAL, usage.total())]
    listed = [
        Demand(purpose, size.name, name, needs.needed, *row, needs.held) for name, row in rows
    ]
    return next((demand for demand in listed if not demand.enough), listed[0])


def _finetune_needs(session: AzureSession, sizes: dict[str, Size]) -> _Needs:
    settings = session.recipe.finetune.compute
    size = find_size(session, sizes, settings.sku)
    cluster = (find_cluster(session) or {}).get("properties", {}).get("properties") or {}
    nodes = int(cluster.get("currentNodeCount") or 0)
    held = _held(cluster.get("vmSize"), sizes, size, lambda cores: cores * nodes)
    return _Needs(size, settings.nodes * size.cores, held)


def _endpoint_needs(session: AzureSession, sizes: dict[str, Size]) -> _Needs:
    settings = session.recipe.endpoint
    size = find_size(session, sizes, settings.sku)
    endpoint = derive_names(session.recipe, session.subscription_id).endpoint
    path = f"{session.workspace_path()}/onlineEndpoints/{endpoint}/deployments"
    with azure_errors(f"reading the deployments of {endpoint}"):
        deployments = session.arm.children(path)
    held = sum(_deployment_cores(deployment, sizes, size) for deployment in deployments)
    return _Needs(size, endpoint_cores(size.name, size.cores, settings.instances), held)


def _deployment_cores(deployment: dict[str, Any], sizes: dict[str, Size], size: Size) -> int:
    sku = str(deployment["properties"].get("instanceType"))
    instances = int((deployment.get("sku") or {}).get("capacity") or 0)
    return _held(sku, sizes, size, lambda cores: endpoint_cores(sku, cores, instances))


def _held(
    sku: str | None, sizes: dict[str, Size], size: Size, cores_of: Callable[[int], int]
) -> int:
    has = sizes.get((sku or "").lower())
    return cores_of(has.cores) if has and has.family == size.family else 0


@cache
def _table() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))
    return content
