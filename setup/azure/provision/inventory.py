"""Resources of the template by name, and a survey of those that there are: read every time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter

from setup.azure.client import ownership
from setup.azure.client.money import price_class
from setup.azure.client.session import AzureSession
from setup.azure.facts.offers import builds_on_cluster
from setup.azure.provision import infra
from setup.azure.provision.existing import (
    existing_bodies,
    existing_ids,
    left_out,
    template_values,
)
from setup.azure.provision.roles import Role, missing_roles, wanted_roles
from setup.azure.provision.vault import is_recoverable
from setup.common.errors import FixableError

WORKSPACES = "microsoft.machinelearningservices/workspaces"
_PARAMETER = re.compile(r"parameters\('(\w+)'\)")
_KEYS = {parameter: key for key, parameter in infra.NAMES.items()}
_TITLES = {
    "storage": "storage account",
    "key_vault": "key vault",
    "registry": "container registry",
    "logs": "log workspace",
    "insights": "application insights",
    "identity": "managed identity",
    "workspace": "workspace",
    "compute": "cluster",
    "hub": "hub",
    "project": "project",
}
# What one without use costs by the hour; setup/azure/provision/infra/README.md says more.
_PRICES = {"storage": "$ an hour", "registry": "$ an hour", "logs": "nothing until written to"}
_SETTINGS = {"compute": "finetune.compute.name", "identity": "azure.workspace"}
_SETTINGS |= {"logs": "azure.workspace", "insights": "azure.workspace"}
_DURATION = TypeAdapter(timedelta)  # reads ISO 8601: PT120S, PT2M
_ENDED_BADLY = ("failed", "canceled")


@dataclass(frozen=True)
class Wanted:
    """A resource of the template: ``key`` of ``infra.NAMES``, ``path`` its id."""

    key: str
    kind: str
    name: str
    path: str
    api_version: str
    sku: str
    price: str

    @property
    def title(self) -> str:
        """For people."""
        return f"{_TITLES[self.key]} {self.name}"

    @property
    def setting(self) -> str:
        """The field of the recipe that names it, or that its name is made of."""
        return _SETTINGS.get(self.key, f"azure.{self.key}")

    def line(self) -> str:
        """For people, with SKU and price."""
        return f"{self.title}{f', {self.sku}' if self.sku else ''}: {self.price}"


def wanted_resources(session: AzureSession) -> list[Wanted]:
    """List what the template makes for the session's recipe, in the template's order."""
    names = asdict(session.names)
    entries = (entry for entry in infra.template()["resources"] if _PARAMETER.search(entry["name"]))
    wanted = [_wanted(session, entry, names) for entry in entries]
    ids = existing_ids(session)
    return [resource for resource in wanted if not left_out(resource.key, ids)]


def _wanted(session: AzureSession, entry: dict[str, Any], names: dict[str, str]) -> Wanted:
    keys = [_KEYS[parameter] for parameter in _PARAMETER.findall(entry["name"])]
    space, *kinds = entry["type"].split("/")
    pairs = [f"{kind}/{names[key]}" for kind, key in zip(kinds, keys, strict=True)]
    path = "/".join([session.group_id, "providers", space, *pairs])
    sku, price = _sku_of(entry), _PRICES.get(keys[-1], "nothing")
    if keys[-1] == "registry":  # private endpoints need the larger one
        sku = "Basic" if session.recipe.azure.public_network else "Premium"
    if keys[-1] == "compute":
        sku = session.recipe.finetune.compute.sku
        price = f"{price_class(sku)} an hour and node while a job runs, else nothing"
    return Wanted(keys[-1], entry["type"], names[keys[-1]], path, entry["apiVersion"], sku, price)


def describe(resource: Mapping[str, Any]) -> tuple[str, str]:
    """Return the title of a resource as a group lists it, and what it costs unused."""
    kind, word = str(resource["type"]).lower(), str(resource.get("kind")).lower()
    entries = reversed(infra.template()["resources"])
    types = {entry["type"].lower(): entry["name"] for entry in entries}
    named = _PARAMETER.findall(types.get(kind, ""))
    key = word if kind == WORKSPACES and word in _TITLES else _KEYS[named[-1]] if named else ""
    title = _TITLES.get(key, kind.rpartition("/")[2])
    return f"{title} {resource['name']}", _PRICES.get(key, "nothing")


def _sku_of(body: Mapping[str, Any]) -> str:
    properties = body.get("properties") or {}
    return str((body.get("sku") or properties.get("sku") or {}).get("name") or "")


def find_all(session: AzureSession, resources: list[Wanted]) -> dict[str, dict[str, Any]]:
    """Those of ``resources`` that there are, by key, as Azure describes them."""
    bodies = (
        (it.key, session.find(f"reading {it.title}", it.path, it.api_version)) for it in resources
    )
    return {key: body for key, body in bodies if body is not None}


def differences(
    session: AzureSession, resource: Wanted, body: Mapping[str, Any] | None
) -> list[str]:
    """Say what a deployment would change about a resource, in words; empty if nothing.

    An error if it is not ours, or differs in what no deployment can change.
    """
    if body is None:
        return ["missing"]
    if resource.key == "compute":
        if session.recipe.azure.existing.workspace:
            ownership.refuse_foreign(resource.title, body, resource.setting)
        return [*_failed(body), *_cluster(session, resource, body)]
    ownership.refuse_foreign(resource.title, body, resource.setting)
    _refuse_elsewhere(session, resource, body)
    tags = (body.get("tags") or {}).items()
    changes = [] if session.tags.items() <= tags else ["tags"]
    changes += _settings(session, resource.key, body.get("properties") or {})
    if (sku := _sku_of(body)) and resource.sku and sku.lower() != resource.sku.lower():
        changes.append(f"SKU {sku}")
    return [*_failed(body), *changes]


def _settings(session: AzureSession, key: str, properties: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is otherwise than the recipe has it: a policy may have changed it silently."""
    azure = session.recipe.azure
    wanted: dict[str, Any] = {}
    if key in ("storage", "key_vault", "registry", "workspace", "hub", "project"):
        wanted["publicNetworkAccess"] = "Enabled" if azure.public_network else "Disabled"
    if key == "storage":
        wanted["allowSharedKeyAccess"] = azure.shared_keys
    if key == "key_vault" and azure.purge_protection:  # it can never be switched off
        wanted["enablePurgeProtection"] = True
    if key == "workspace" and builds_on_cluster(session):
        wanted["imageBuildCompute"] = session.recipe.finetune.compute.name
    for name, value in wanted.items():
        there = properties.get(name)
        if there is not None and str(there).lower() != str(value).lower():
            yield f"{name} {there}"
        elif there is None and name in ("enablePurgeProtection", "imageBuildCompute"):
            yield f"no {name}"


def has_failed(body: Mapping[str, Any]) -> bool:
    """Tell whether the last operation on a resource left it failed."""
    return bool([*_failed(body)])


def _failed(body: Mapping[str, Any]) -> Iterator[str]:
    state = str((body.get("properties") or {}).get("provisioningState")).lower()
    if state in _ENDED_BADLY:
        yield f"was left {state}"


def _refuse_elsewhere(session: AzureSession, resource: Wanted, body: Mapping[str, Any]) -> None:
    there = str(body.get("location", "")).replace(" ", "").lower()
    region = session.recipe.azure.location
    if there and there != region:
        raise FixableError(
            f"{resource.title} is in {there}, the recipe says {region}",
            f"--set azure.location={there}, or --set azure.resource_group=NAME for another set",
        )


def _cluster(session: AzureSession, resource: Wanted, body: Mapping[str, Any]) -> Iterator[str]:
    settings = session.recipe.finetune.compute
    there = (body.get("properties") or {}).get("properties") or {}
    if str(there.get("vmSize")).lower() != settings.sku.lower():
        raise FixableError(
            f"{resource.title} is of {there.get('vmSize')}, the recipe says {settings.sku}",
            "--set finetune.compute.name=NAME, or "
            + session.recipe.command("teardown --stage compute"),
        )
    scale = there.get("scaleSettings") or {}
    if scale.get("maxNodeCount") != settings.nodes:
        yield f"{scale.get('maxNodeCount')} nodes"
    idle = _DURATION.validate_python(scale.get("nodeIdleTimeBeforeScaleDown") or "PT0S")
    if idle.total_seconds() != settings.idle_seconds:
        yield f"{idle.total_seconds():.0f} idle seconds"


@dataclass(frozen=True)
class Survey:
    """The recipe's resources, those of them that there are, and ``differs`` in words by key."""

    group: bool
    resources: list[Wanted]
    bodies: dict[str, dict[str, Any]]
    differs: dict[str, list[str]]
    roles: list[Role]
    missing: list[Role]

    @property
    def usable(self) -> set[str]:
        """Those that are there and whole; what else differs, somebody's policy may have changed."""
        return {key for key in self.bodies if not has_failed(self.bodies[key])}

    @property
    def done(self) -> bool:
        """Tell whether nothing is left to make or change."""
        return self.group and not self.differs and not self.missing

    def state(self, resource: Wanted) -> str:
        """Say of a resource that it exists, and what of it is to be changed; empty where not."""
        differs = self.differs.get(resource.key, [])
        if resource.key not in self.bodies:
            return ""
        return f" (exists, to be changed: {', '.join(differs)})" if differs else " (exists)"

    def recovers(self, session: AzureSession) -> bool:
        """Tell whether a key vault is to be taken back, which was deleted and not purged."""
        makes = any(resource.key == "key_vault" for resource in self.resources)
        return makes and "key_vault" not in self.bodies and is_recoverable(session)

    @classmethod
    def read(cls, session: AzureSession) -> Survey:
        """Read what there is; an error where the group is somebody else's, or going."""
        resources = wanted_resources(session)
        existing = existing_bodies(session, existing_ids(session))
        group = session.find_group()
        if group is None:
            absent = {resource.key: ["missing"] for resource in resources}
            return cls(False, resources, {}, absent, [], [])
        ownership.refuse_group(session.group, group)
        bodies = find_all(session, resources)
        bodies |= existing
        differs = {
            resource.key: differences(session, resource, bodies.get(resource.key))
            for resource in resources
        }
        wanted = wanted_roles(session, bodies)
        missing = missing_roles(session, wanted)
        differs = {key: words for key, words in differs.items() if words}
        return cls(True, resources, bodies, differs, wanted, missing)

    @staticmethod
    def parameters(
        session: AzureSession, principal: str, recover: bool
    ) -> dict[str, dict[str, Any]]:
        """Write the parameters of the template."""
        recipe, cluster = session.recipe, session.recipe.finetune.compute
        names = asdict(session.names)
        return infra.template_parameters(
            names={key: name for key, name in names.items() if key in infra.NAMES},
            location=recipe.azure.location,
            tags=session.tags,
            computeSku=cluster.sku,
            computeNodes=cluster.nodes,
            computeIdleSeconds=cluster.idle_seconds,
            identityRole=recipe.azure.roles,
            principalId=principal,
            principalType=session.principal.kind,
            recoverKeyVault=recover,
            publicNetworkAccess="Enabled" if recipe.azure.public_network else "Disabled",
            enablePurgeProtection=recipe.azure.purge_protection,
            allowSharedKeyAccess=recipe.azure.shared_keys,
            imageBuildCompute=cluster.name if builds_on_cluster(session) else "",
            **template_values(existing_ids(session)),
        )
