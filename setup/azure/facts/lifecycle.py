"""Which models and SKUs Azure has retired: our own dated table, and what the registry says.

Refusing early is cheap: a job with a retired model fails after twenty minutes of starting machines,
one with a retired SKU waits for a quota that nobody can give.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from setup.azure.facts import dated_table
from setup.common.errors import FixableError
from setup.recipe.azure import AzureRecipe, RegistryAsset

if TYPE_CHECKING:
    from setup.azure.client.session import AzureSession

_DISCOVERY = "https://eastus.api.azureml.ms/registrymanagement/v1.0/registries/{}/discovery"
_ENDS = re.compile(r"(finetune|inference)?_?retirement_?date", re.IGNORECASE)


@dataclass(frozen=True)
class Retirement:
    """The end of a model or SKU, passed or announced.

    ``field`` is where the recipe names it; ``use`` a value that works there.
    """

    field: str
    name: str
    on: date
    replaced_by: str
    use: str
    source: str

    @property
    def passed(self) -> bool:
        """Tell whether the day has come."""
        return self.on <= today()

    def line(self) -> str:
        """For people."""
        when = "was retired on" if self.passed else "will be retired on"
        by = f", replaced by {self.replaced_by}" if self.replaced_by else ""
        return f"{self.name} {when} {self.on}{by} ({self.source})"

    @property
    def fix(self) -> str:
        """Say what to write into the recipe instead."""
        return f"--set {self.field}={self.use}" if self.use else f"choose another {self.field}"


def today() -> date:
    """The day, in UTC, as Microsoft's dates are."""
    return datetime.now(UTC).date()


def checked_on() -> date:
    """Return the day on which the whole table was last compared with its sources."""
    return _as_date(dated_table("lifecycle")["checked"])


def retirements(recipe: AzureRecipe) -> list[Retirement]:
    """List what the table says of the recipe's model and SKUs, passed or announced."""
    named = [
        ("skus", "finetune.compute.sku", recipe.finetune.compute.sku),
        ("skus", "endpoint.sku", recipe.endpoint.sku),
    ]
    # Weights on the Hugging Face hub outlive the catalog's entry of the same name.
    if recipe.model.asset:
        named.insert(0, ("models", "model.source", recipe.model.asset.name))
    return [
        retirement for kind, field, name in named if (retirement := _look_up(kind, field, name))
    ]


def services() -> list[Retirement]:
    """List what the table says of Prompt flow and the services around it."""
    return [
        Retirement("", row["name"], _as_date(row["retired"]), row["replaced_by"], "", row["source"])
        for row in dated_table("lifecycle")["services"]
    ]


def refuse_retired(recipe: AzureRecipe) -> None:
    """Raise FixableError, naming the replacements, if the table has something as retired.

    Asks nobody: call it before anything is written or paid for.
    """
    ended = [retirement for retirement in retirements(recipe) if retirement.passed]
    if ended:
        what = "; ".join(retirement.line() for retirement in ended)
        raise FixableError(what, " ".join(dict.fromkeys(retirement.fix for retirement in ended)))


def registry_says(session: AzureSession) -> list[str]:
    """Return what the registry says against the recipe's model, empty where it says nothing."""
    asset = session.recipe.model.asset
    if asset is None:
        return []
    doing = f"asking registry {asset.registry} for {asset.name} {asset.version}"
    entry = session.look_for(doing, _read_entry, session, asset)
    return [f"not in registry {asset.registry}"] if entry is None else [*objections(entry)]


def _read_entry(session: AzureSession, asset: RegistryAsset) -> dict[str, Any]:
    """Return the ``properties`` of a model's version: ``isArchived``, ``tags``, system metadata.

    azure-ai-ml drops the parts that say whether a model is archived or retired. The paths are its
    own: ``_utils/_registry_utils``, ``_restclient/v2021_10_01_dataplanepreview``.
    """
    from azure.core.exceptions import DecodeError

    try:
        place = session.arm.ask(_DISCOVERY.format(asset.registry)).json()
        host = str(place["primaryRegionResourceProviderUri"]).rstrip("/")
        path = (
            f"/subscriptions/{place['subscriptionId']}/resourceGroups/{place['resourceGroup']}"
            f"/providers/Microsoft.MachineLearningServices/registries/{asset.registry}"
            f"/models/{asset.name}/versions/{asset.version}?api-version={session.arm.registry_version}"
        )
        url = f"{host}/mferp/managementfrontend{path}"
        return dict(session.arm.ask(url).json()["properties"])
    except (KeyError, TypeError, ValueError) as error:  # no contract keeps its shape
        said = f"its answer has an unknown shape ({type(error).__name__}: {error})"
        raise DecodeError(said) from None


def refuse_objected(session: AzureSession) -> None:
    """Raise FixableError if the registry can be asked and says something against the model."""
    try:
        said = registry_says(session)
    except FixableError:
        return
    if said:
        raise FixableError(
            f"{session.recipe.model.source}: the registry says {'; '.join(said)}",
            "--set model.source=azureml://registries/R/models/NAME/versions/N, one that it offers",
        )


def objections(said: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a part of a registry's entry says against its model: retired, archived."""
    for key, value in said.items():
        if isinstance(value, Mapping):
            yield from objections(value)
        elif _ENDS.search(key) and (when := _read_date(value)) and when <= today():
            yield f"{key} {when}"
        elif key.lower() in ("archived", "isarchived") and str(value).lower() == "true":
            yield "archived"


def _look_up(kind: str, field: str, name: str) -> Retirement | None:
    for row in dated_table("lifecycle")[kind]:
        if re.fullmatch(row["name"], name, re.IGNORECASE):
            use = row.get("use", "" if kind == "models" else row["replaced_by"])
            on = _as_date(row["retired"])
            return Retirement(field, name, on, row["replaced_by"], use, row["source"])
    return None


def _as_date(value: Any) -> date:
    return value if isinstance(value, date) else date.fromisoformat(str(value))


def _read_date(value: Any) -> date | None:
    try:
        return date.fromisoformat(str(value)[:10])
    except ValueError:
        return None
