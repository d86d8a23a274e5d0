"""The infrastructure template: valid, least exposed, the same again when deployed again."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
import yaml

from setup.azure.client.names import derive_names
from setup.azure.client.ownership import MADE, TAG
from setup.azure.provision.infra import FOLDER, NAMES, template, template_parameters
from setup.common.paths import REPOSITORY
from setup.recipe.load import load_azure_recipe
from tests.azure.fake import FakeAzure
from tests.azure.fake.arm import write_resource
from tests.azure.fake.contracts import Contracts
from tests.azure.fake.store import Id
from tests.azure.fake.subscription import SUBSCRIPTION
from tests.azure.fake.supporting import ASSIGNMENT, IDENTITY
from tests.azure.fake.templates import Template
from tests.azure.infrastructure import (
    GIVEN,
    GROUP,
    ME,
    SPACE,
    deploy,
    kinds_of,
    properties_of,
    resources_in,
)

VARIANTS: dict[str, dict[str, Any]] = {
    "all": {},
    "no compute": {"computeSku": ""},
    "no hub": {"extra": {"createHub": {"value": False}}},
    "nobody": {"principalId": ""},
    "contributor": {"identityRole": "contributor", "principalType": "ServicePrincipal"},
}


@pytest.fixture
def group(azure: FakeAzure) -> FakeAzure:
    """A subscription with an empty resource group."""
    write_resource(azure, Id(GROUP), {"location": "swedencentral"})
    return azure


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_body_is_as_the_published_types_say(
    group: FakeAzure, contracts: Contracts, variant: str
) -> None:
    deploy(group, **VARIANTS[variant])
    assert group.violations == []
    assert group.unchecked == set()


def test_shared_keys_and_recovery_are_as_the_published_types_say(
    group: FakeAzure, contracts: Contracts
) -> None:
    deploy(group, recoverKeyVault=True, extra={"allowSharedKeyAccess": {"value": True}})
    assert (group.violations, group.unchecked) == ([], set())


def test_a_property_that_is_not_declared_is_found(group: FakeAzure, contracts: Contracts) -> None:
    content = template()
    bodies = [one for one in resources_in(content) if not one["type"].endswith("/deployments")]
    for body in bodies:
        body.setdefault("properties", {})["surprise"] = True
    group.strict = False
    deploy(group, content, extra={"identityRole": {"value": "narrow"}})
    # All but the roles of the other variant and of a cluster that builds images.
    assert len(group.violations) == len(bodies) - 2
    assert all(violation.endswith("surprise: not declared") for violation in group.violations)


def test_what_is_made(group: FakeAzure) -> None:
    outputs = deploy(group).outputs
    workspaces = {one.id.name: one for one in group.store if one.kind == SPACE}
    kinds = {name: one.body["kind"] for name, one in workspaces.items()}
    assert kinds == {"phi-ws": "Default", "phi-hub": "Hub", "phi-project": "Project"}
    hub_of_project = workspaces["phi-project"].properties["hubResourceId"]
    assert hub_of_project == workspaces["phi-hub"].id.text
    cluster = properties_of(group, f"{SPACE}/computes")["properties"]
    assert cluster["vmSize"] == GIVEN["computeSku"]
    assert cluster["vmPriority"] == "Dedicated"
    assert cluster["remoteLoginPortPublicAccess"] == "Disabled"
    assert cluster["scaleSettings"] == {
        "minNodeCount": 0,
        "maxNodeCount": 1,
        "nodeIdleTimeBeforeScaleDown": "PT120S",
    }
    assert outputs["workspaceName"]["value"] == "phi-ws"
    assert group.store.get(outputs["identityId"]["value"]) is not None
    for name in ("storageName", "keyVaultName", "registryName"):
        assert [one for one in group.store if one.id.name == outputs[name]["value"]]


def test_compute_and_hub_can_be_left_out(group: FakeAzure) -> None:
    outputs = deploy(group, computeSku="", **VARIANTS["no hub"]).outputs
    assert kinds_of(group).count(SPACE) == 1
    assert f"{SPACE}/computes" not in kinds_of(group)
    left_out = ("computeName", "hubName", "projectName")
    assert [outputs[name]["value"] for name in left_out] == ["", "", ""]


def test_everything_carries_the_tags(group: FakeAzure) -> None:
    done = deploy(group)
    untagged = [one.id.text for one in done.resources if one.body.get("tags") != GIVEN["tags"]]
    assert [id_ for id_ in untagged if "/roleAssignments/" not in id_] == []


def test_deployed_again_it_is_the_same(group: FakeAzure) -> None:
    deploy(group)
    before = {one.id.key: copy.deepcopy(one.body) for one in group.store}
    deploy(group)
    assert {one.id.key: one.body for one in group.store} == before


def test_nothing_is_more_public_than_it_must_be(group: FakeAzure) -> None:
    deploy(group)
    storage = properties_of(group, "microsoft.storage/storageaccounts")
    for name in ("allowBlobPublicAccess", "allowSharedKeyAccess", "isLocalUserEnabled"):
        assert storage[name] is False, name
    assert storage["supportsHttpsTrafficOnly"] is True
    assert storage["minimumTlsVersion"] == "TLS1_2"
    vault = properties_of(group, "microsoft.keyvault/vaults")
    assert vault["enableRbacAuthorization"] is True
    assert vault["enableSoftDelete"] is True
    assert "enablePurgeProtection" not in vault
    assert (
        properties_of(group, "microsoft.containerregistry/registries")["adminUserEnabled"] is False
    )
    (cluster,) = [one for one in resources_in(template()) if one["type"].endswith("/computes")]
    assert cluster["properties"]["disableLocalAuth"] is True
    assert cluster["properties"]["properties"]["remoteLoginPortPublicAccess"] == "Disabled"


def test_only_what_is_reached_from_outside_has_a_public_address() -> None:
    """Each of these is written to from the user's machine, or by services outside a network."""
    public = [one["type"] for one in resources_in(template()) if _says(one, "publicNetworkAccess")]
    workspaces = ["Microsoft.MachineLearningServices/workspaces"] * 3
    others = ["ContainerRegistry/registries", "KeyVault/vaults", "Storage/storageAccounts"]
    assert sorted(public) == sorted([*workspaces, *(f"Microsoft.{other}" for other in others)])


def test_without_public_addresses_nothing_has_one(group: FakeAzure) -> None:
    extra = {"publicNetworkAccess": "Disabled", "enablePurgeProtection": True}
    deploy(group, extra={name: {"value": value} for name, value in extra.items()})
    said = {
        one.kind: one.properties["publicNetworkAccess"]
        for one in group.store
        if "publicNetworkAccess" in one.properties
    }
    assert len(said) == 4
    assert set(said.values()) == {"Disabled"}
    registry = next(one for one in group.store if one.kind.endswith("/registries"))
    assert registry.body["sku"]["name"] == "Premium"  # which private endpoints need
    assert properties_of(group, "microsoft.keyvault/vaults")["enablePurgeProtection"] is True
    isolated = [one.properties.get("managedNetwork") for one in group.store if one.kind == SPACE]
    assert isolated.count({"isolationMode": "AllowInternetOutbound"}) == 2  # not of the project
    assert group.violations == []


def test_images_are_built_on_the_cluster_that_may_push_them(group: FakeAzure) -> None:
    deploy(group, extra={"imageBuildCompute": {"value": "gpu"}})
    spaces = [one for one in group.store if one.kind == SPACE]
    assert [one.properties.get("imageBuildCompute") for one in spaces].count("gpu") == 1
    roles = [one for one in group.store if one.kind == ASSIGNMENT]
    given = {one.properties["roleDefinitionId"].rpartition("/")[2] for one in roles}
    assert "8311e382-0749-4cb8-b61a-304f252e45ec" in given  # AcrPush
    assert group.violations == []


def test_what_is_there_already_is_not_made(group: FakeAzure) -> None:
    deploy(group)
    kept = {one.kind: one.id.text for one in group.store}
    ids = {
        "existingStorageId": kept["microsoft.storage/storageaccounts"],
        "existingKeyVaultId": kept["microsoft.keyvault/vaults"],
        "existingRegistryId": kept["microsoft.containerregistry/registries"],
        "existingInsightsId": kept["microsoft.insights/components"],
    }
    other = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/other"
    write_resource(group, Id(other), {"location": "swedencentral"})
    given = {name: {"value": id_} for name, id_ in ids.items()}
    done = Template(group, "infra", other, template(), given).deploy()
    assert done.error is None
    made = {one.kind for one in done.resources}
    assert made == {IDENTITY, SPACE, ASSIGNMENT}
    spaces = [one for one in done.resources if one.kind == SPACE and one.body["kind"] != "Project"]
    assert {one.properties["storageAccount"] for one in spaces} == {ids["existingStorageId"]}
    assert done.outputs["storageName"]["value"] == Id(ids["existingStorageId"]).name
    assert len([one for one in done.resources if one.kind == ASSIGNMENT]) == 1  # on the workspace


def test_no_secret_leaves_the_template() -> None:
    """No list* function anywhere: no key is read, let alone put out."""
    text = json.dumps(template())
    assert re.findall(r"\blist\w*\(", text) == []
    assert "secure" not in text.lower().replace("securityrules", "")
    assert not re.search(r"key1|password|connectionstring", text, re.IGNORECASE)


def test_names_follow_the_group(group: FakeAzure) -> None:
    first = {one.id.name for one in deploy(group, names={}).resources}
    other = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/other"
    write_resource(group, Id(other), {"location": "swedencentral"})
    second = {
        one.id.name for one in Template(group, "infra", other, template(), {}).deploy().resources
    }
    assert len(second) > 8
    assert not first & second


def test_parameters_are_the_templates() -> None:
    names = {key: f"a{key.replace('_', '')}" for key in NAMES}
    given = template_parameters(**(GIVEN | {"names": names}))
    declared = template()["parameters"]
    of_others = {name for name in declared if name.startswith(("existing", "create"))}
    of_company = {"allowSharedKeyAccess", "publicNetworkAccess", "enablePurgeProtection"}
    assert set(given) == set(declared) - of_others - of_company - {"imageBuildCompute"}
    assert given["keyVaultName"] == {"value": "akeyvault"}
    assert template_parameters(**GIVEN).keys() == given.keys() - {
        NAMES[key] for key in NAMES if not GIVEN["names"].get(key)
    }
    with pytest.raises(ValueError, match="vault"):
        template_parameters(**(GIVEN | {"names": {"vault": "x"}}))


def test_azd_finds_the_template_and_its_parameters() -> None:
    azd = yaml.safe_load((REPOSITORY / "azure.yaml").read_text(encoding="utf-8"))
    infra = azd["infra"]
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", azd["name"])
    assert infra["provider"] == "bicep"
    assert REPOSITORY / infra["path"] == FOLDER
    assert (FOLDER / f"{infra['module']}.bicep").is_file()
    given = json.loads((FOLDER / f"{infra['module']}.parameters.json").read_text(encoding="utf-8"))
    assert set(given["parameters"]) <= set(template()["parameters"])
    with_default = {
        "FINETUNE_PHI_COMPUTE_SKU",
        "FINETUNE_PHI_IDENTITY_ROLE",
        "AZURE_PRINCIPAL_TYPE",
    }
    by_azd = {"AZURE_ENV_NAME", "AZURE_LOCATION", "AZURE_PRINCIPAL_ID"}
    assert given["parameters"]["tags"]["value"][TAG] == MADE  # else teardown would leave them
    used = re.findall(r"\$\{(\w+)(=?)", json.dumps(given))
    assert {name for name, default in used if default} == with_default
    assert {name for name, default in used if not default} == by_azd


def test_azds_defaults_can_be_deployed(group: FakeAzure) -> None:
    path = FOLDER / "main.parameters.json"
    values = {"AZURE_LOCATION": "eastus2", "AZURE_ENV_NAME": "demo", "AZURE_PRINCIPAL_ID": ME}
    text = re.sub(r"\$\{(\w+)=?(\w*)\}", lambda m: values.get(m[1], m[2]), path.read_text("utf-8"))
    done = Template(group, "azd", GROUP, template(), json.loads(text)["parameters"]).deploy()
    assert done.error is None
    assert f"{SPACE}/computes" not in kinds_of(group)
    recipe = load_azure_recipe(
        "phi-azure", [f"azure.workspace={done.outputs['workspaceName']['value']}"]
    )
    names = derive_names(recipe, SUBSCRIPTION)
    made = {one.id.name for one in done.resources}
    assert {names.identity, names.logs, names.insights} <= made  # the recipe cannot name them


def _says(resource: dict[str, Any], value: str) -> bool:
    properties = resource.get("properties", {})
    return "template" not in properties and value in json.dumps(properties)
