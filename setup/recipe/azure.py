"""The recipe of a run in Azure: ``target: azure`` in a file of ``setup/recipes``."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from setup.recipe import local

# What Azure takes as names. Endpoints and deployments: a letter, then letters, digits and single
# dashes, 3 to 32 in all: https://learn.microsoft.com/azure/machine-learning/how-to-manage-quotas
_ASSET = re.compile(r"azureml://registries/([^/]+)/models/([^/]+)/versions/([^/]+)")
_HUGGINGFACE = re.compile(r"(?:hf:)?([\w.-]+/[\w.-]+)")
_GUID = r"^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})?$"
_WORKSPACE = r"^[a-zA-Z0-9][a-zA-Z0-9_-]{2,32}$"
_INDEX = r"^(https://[\w.-]+(:\d+)?(/[\w./-]*)?)?$"  # without a user: the image would keep it
_ENDPOINT = r"^([a-z][a-z0-9-]{1,30}[a-z0-9])?$"

_VLLM_LOADS = 900  # seconds that it may take to load a model and compile for it
_RESOURCE = r"^(/subscriptions/[^/]+/resourceGroups/[^/]+/providers/[^/]+/[^/]+/[^/]+)?$"

ResourceId = Annotated[str, Field(pattern=_RESOURCE)]
Guid = Annotated[str, Field(pattern=_GUID)]
Workspace = Annotated[str, Field(pattern=_WORKSPACE)]
Sku = Annotated[str, Field(pattern=r"^Standard_\w+$")]


class RegistryAsset(NamedTuple):
    """A version of a model in a registry of Azure ML."""

    registry: str
    name: str
    version: str


class Existing(local.Section):
    """Resources that exist and are used instead of made: their ids, empty for what is made.

    With ``workspace`` the one that ``azure.workspace`` names is there in the recipe's group, and
    its storage, vault, registry and insights are used. None of it is changed or deleted.
    """

    storage: ResourceId = ""
    key_vault: ResourceId = ""
    registry: ResourceId = ""
    insights: ResourceId = ""
    workspace: bool = False


class Azure(local.Section):
    """A place in Azure: an empty id is taken from the login, an empty name is derived.

    Derived names (setup/azure/client/names.py) depend on subscription and group only, so that every
    run finds what the one before made. ``roles`` is what the identity of endpoint and cluster may
    do: the narrow roles that reading the model needs, or Contributor on the group as in the
    tutorial. ``public_network`` false gives nothing a public address: the network with its private
    endpoints is yours. ``image_build`` is what builds images; ``auto`` is the registry's tasks,
    and the cluster where the offer or the network forbids those.
    """

    subscription: Guid = ""
    tenant: Guid = ""
    resource_group: str = Field(pattern=r"^[\w().-]{0,89}[\w()-]$")
    location: str = Field(pattern=r"^[a-z0-9]+$")
    workspace: Workspace
    hub: Workspace
    project: Workspace
    storage: str = Field(default="", pattern=r"^([a-z0-9]{3,24})?$")
    key_vault: str = Field(default="", pattern=r"^([a-zA-Z][a-zA-Z0-9-]{1,22}[a-zA-Z0-9])?$")
    registry: str = Field(default="", pattern=r"^([a-zA-Z0-9]{5,50})?$")
    tags: dict[str, str] = Field(default_factory=dict)
    roles: Literal["narrow", "contributor"] = "narrow"
    public_network: bool = True
    purge_protection: bool = False
    shared_keys: bool = False
    image_build: Literal["auto", "registry", "cluster"] = "auto"
    existing: Existing = Existing()


class AzureModel(local.Model):
    """The model that is fine-tuned.

    ``source`` is ``azureml://registries/R/models/NAME/versions/N``, or a Hugging Face id
    (``OWNER/NAME``, also ``hf:OWNER/NAME``); the route ``own`` also takes what the local target
    takes, with ``file``, ``sha256`` and ``precision`` as there.
    """

    @property
    def asset(self) -> RegistryAsset | None:
        """The registry's model, None where the source is something else."""
        match = _ASSET.fullmatch(self.source)
        return RegistryAsset(*match.groups()) if match else None

    @property
    def huggingface_id(self) -> str:
        """OWNER/NAME on the Hugging Face hub, empty where the source is something else."""
        match = _HUGGINGFACE.fullmatch(self.source)
        return match[1] if match else ""

    @property
    def name(self) -> str:
        """The model without where it comes from and which version, as lifecycle tables name it."""
        return self.asset.name if self.asset else self.source.rpartition("/")[2]


class Compute(local.Section):
    """The cluster that fine-tunes: 0 to ``nodes`` machines, gone after ``idle_seconds``."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{1,30}[a-z0-9]$")
    sku: Sku
    nodes: int = Field(default=1, ge=1, le=100)
    idle_seconds: int = Field(default=120, ge=60)


class AzureFinetune(local.Section):
    """The fine-tuning of the model.

    ``route: catalog`` runs the pipeline component of the model catalog, ``inputs`` by the names of
    the component's own inputs; ``route: own`` runs our trainer as a command job, with the values
    of the local target in ``trainer`` and torch from ``torch_index``, empty for the builds that fit
    Azure's machines. A job that runs longer than ``max_hours`` is cancelled.
    """

    route: Literal["catalog", "own"]
    component_registry: str = ""
    component: str = ""
    component_version: str = ""
    compute: Compute
    max_hours: float = Field(gt=0, le=500)
    inputs: dict[str, bool | int | float | str] = Field(default_factory=dict)
    trainer: local.Finetune | None = None
    torch_index: str = Field(default="", pattern=_INDEX)

    @model_validator(mode="after")
    def _route_is_complete(self) -> AzureFinetune:
        component = (self.component_registry, self.component, self.component_version)
        if self.route == "catalog" and not all(component):
            raise ValueError("route catalog needs component_registry, component, component_version")
        if self.route == "own" and self.trainer is None:
            raise ValueError("route own needs trainer, the finetune section of a local recipe")
        return self

    def component_inputs(self) -> dict[str, int | float | str]:
        """``inputs`` as the component takes them: its booleans are the strings true and false."""
        return {
            name: str(value).lower() if isinstance(value, bool) else value
            for name, value in self.inputs.items()
        }


class Probe(local.Section):
    """A probe of a container, alive or ready; times in seconds.

    Large models take minutes to load; Azure's own defaults kill such a container with a 502.
    """

    initial_delay: int = Field(ge=0)
    period: int = Field(ge=1)
    timeout: int = Field(default=10, ge=1)
    failure_threshold: int = Field(ge=1)
    success_threshold: int = Field(default=1, ge=1)

    @property
    def longest(self) -> float:
        """The seconds that it waits before it gives up."""
        return self.initial_delay + self.period * self.failure_threshold


class Scale(local.Section):
    """Azure's autoscale: instances follow the load, between ``min`` and ``max``.

    One instance more where the mean of ``metric`` over ``minutes`` is above ``out_above`` per cent,
    one less where it is below ``in_below``; ``minutes`` also pass between two such steps. Every
    instance is billed, so ``max`` is what it may cost.
    """

    min: int = Field(default=1, ge=1, le=50)
    max: int = Field(ge=1, le=50)
    metric: Literal["cpu", "gpu"]
    out_above: int = Field(default=70, ge=1, le=100)
    in_below: int = Field(default=30, ge=0, le=99)
    minutes: int = Field(default=5, ge=5, le=60)  # Azure looks at no less than five

    @model_validator(mode="after")
    def _is_a_range(self) -> Scale:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        if self.in_below >= self.out_above:
            raise ValueError(f"in_below {self.in_below} is not below out_above {self.out_above}")
        return self


class DataCollector(local.Section):
    """Azure's data collector: requests and answers go to the workspace's blob storage.

    ``sampling_rate`` is the share of them; a new folder begins each ``rolling_rate``.
    """

    enabled: bool = False
    sampling_rate: float = Field(default=1.0, gt=0, le=1)
    rolling_rate: Literal["minute", "hour", "day"] = "hour"


class AzureEndpoint(local.Section):
    """The managed online endpoint; its name is unique in the region, empty derives one.

    ``deployment`` begins the names of its two deployments, such as tuned-blue and tuned-green.
    ``canary`` is the share of the traffic, in per cent, that a new version of the model takes
    beside the one before it; 100 replaces at once. ``keep_previous`` leaves the deployment before
    as what a rollback goes back to in seconds, at the price of a second one; false deletes it when
    the new one has all the traffic and answers. With ``scale`` a deployment begins with
    ``instances`` and has as many as its load asks for. ``contract`` is how it is asked, as
    connections name it; ``auto`` finds out, for nobody knows before what a fine-tune of the catalog
    serves.
    """

    name: str = Field(default="", pattern=_ENDPOINT)
    deployment: str = Field(pattern=_ENDPOINT, min_length=3)
    kind: Literal["mlflow", "gguf", "vllm"]
    contract: Literal["auto", "score", "mlflow", "openai"] = "auto"
    sku: Sku
    instances: int = Field(default=1, ge=1, le=50)
    scale: Scale | None = None
    request_timeout_ms: int = Field(ge=1000, le=180_000)
    max_concurrent_requests: int = Field(default=1, ge=1)
    liveness: Probe
    readiness: Probe
    canary: int = Field(default=100, ge=1, le=100)
    keep_previous: bool = True
    data_collector: DataCollector = DataCollector()

    @property
    def form(self) -> str:
        """The form in which our own job is to leave the model: what ``kind`` serves."""
        return "transformers" if self.kind == "vllm" else "gguf"

    @property
    def most_instances(self) -> int:
        """The most instances that one deployment can have, each of which is billed."""
        return self.scale.max if self.scale else self.instances

    @model_validator(mode="before")
    @classmethod
    def _is_asked_as_vllm_answers(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("kind") != "vllm":
            return values
        if (given := values.get("contract", "auto")) not in ("auto", "openai"):
            raise ValueError(f"kind vllm is asked by contract openai, not {given}")
        return {**values, "contract": "openai"}

    @model_validator(mode="after")
    def _probes_wait_for_vllm(self) -> AzureEndpoint:
        shortest = min(self.liveness.longest, self.readiness.longest)
        if self.kind == "vllm" and shortest < _VLLM_LOADS:
            raise ValueError(
                f"kind vllm answers no probe before the model is loaded: initial_delay + period x "
                f"failure_threshold of liveness and readiness must be {_VLLM_LOADS} or more, such "
                "as initial_delay: 600"
            )
        return self

    @model_validator(mode="after")
    def _begins_in_the_range(self) -> AzureEndpoint:
        if self.scale and not self.scale.min <= self.instances <= self.scale.max:
            raise ValueError(
                f"instances {self.instances} is outside scale.min {self.scale.min} to "
                f"scale.max {self.scale.max}"
            )
        return self


def _small_cluster() -> Compute:
    return Compute(name="evaluation", sku="Standard_E4s_v3")


class AzureEvaluation(local.Section):
    """Evaluation over several machines, ``run --nodes``: CPUs that ask the endpoint and score.

    The cluster is made when it is first asked for, of as many nodes as ``--nodes`` says. A job that
    runs longer than ``max_hours`` is cancelled by the command that follows it.
    """

    compute: Compute = Field(default_factory=_small_cluster)
    max_hours: float = Field(default=6, gt=0, le=500)


class AzureRecipe(local.NamedRecipe):
    """One run from data through fine-tuning to connection and flow, in Azure."""

    target: Literal["azure"]
    data: local.Data
    azure: Azure
    model: AzureModel
    finetune: AzureFinetune
    registry: local.Registry
    endpoint: AzureEndpoint
    evaluation: AzureEvaluation = Field(default_factory=AzureEvaluation)
    connection: local.Name

    @model_validator(mode="after")
    def _source_fits_the_route(self) -> AzureRecipe:
        known = self.model.asset or self.model.huggingface_id
        if self.finetune.route == "catalog" and not known:
            raise ValueError(
                "model.source is neither azureml://registries/R/models/NAME/versions/N "
                f"nor OWNER/NAME of Hugging Face: {self.model.source!r}"
            )
        kind = self.endpoint.kind
        if kind != "mlflow" and self.finetune.route == "catalog":
            raise ValueError(
                f"endpoint.kind {kind} needs finetune.route own: the catalog writes mlflow"
            )
        return self
