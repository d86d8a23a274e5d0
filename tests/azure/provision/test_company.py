"""Subscriptions of companies and of benefits: what is there is used, what is closed is told."""

from __future__ import annotations

from typing import Any

import pytest

from setup.azure.client.names import derive_names
from setup.azure.client.session import AzureSession
from setup.azure.doctor.findings import run_azure_checks
from setup.common.checks import Check
from setup.recipe.load import load_azure_recipe
from tests.azure.fake import FakeAzure
from tests.azure.fake.ready import add_workspace
from tests.azure.fake.subscription import SUBSCRIPTION
from tests.azure.provisioned import GROUP, SPACES, assignments, provide, recipe, refused
from tests.azure.serving import add
from tests.setup.command import run

MSDN = "MSDN_2014-09-01"
A100 = "standardNCADSA100v4Family"
SHARED = {"finetune-phi": "shared"}


def doctor(name: str, *sets: str) -> dict[str, list[Check]]:
    """The findings by name."""
    found: dict[str, list[Check]] = {}
    for check in run_azure_checks(AzureSession(load_azure_recipe(name, list(sets)))):
        found.setdefault(check.name, []).append(check)
    return found


def company(azure: FakeAzure) -> dict[str, str]:
    """A workspace of somebody else's in the recipe's group, which is shared with us."""
    workspace = add_workspace(azure, "corp", "finetune-phi")
    azure.store.need(GROUP).body["tags"] = dict(SHARED)
    properties = azure.store.need(workspace).properties
    registry = f"{GROUP}/providers/Microsoft.ContainerRegistry/registries/corpregistry"
    insights = f"{GROUP}/providers/Microsoft.Insights/components/corpinsights"
    for id_ in (registry, insights):
        from tests.azure.fake.store import Id

        azure.store.put(Id(id_), {"location": "eastus2", "properties": {}})
    properties |= {"containerRegistry": registry, "applicationInsights": insights}
    keys = ("storageAccount", "keyVault", "containerRegistry", "applicationInsights")
    return {key: str(properties[key]) for key in keys}


def test_existing_workspace_and_what_it_stands_on_are_used_and_left(azure: FakeAzure) -> None:
    parts = company(azure)
    before = {id_: dict(azure.store.need(id_).body) for id_ in parts.values()}
    sets = ("azure.workspace=corp", "azure.existing.workspace=true")
    made = provide(*sets)
    assert "5 resources" not in made.detail
    kinds = sorted(one.id.name for one in azure.store if one.kind.endswith("/workspaces"))
    assert kinds == ["corp", "phi-hub", "phi-project"]
    hub = azure.store.need(f"{SPACES}/phi-hub")
    assert hub.properties["storageAccount"] == parts["storageAccount"]
    assert {id_: azure.store.need(id_).body for id_ in before} == before
    identity = azure.store.need(
        f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/corp-identity"
    ).properties["principalId"]
    scopes = {scope for scope, who, _ in assignments(azure) if who == identity}
    assert {parts["storageAccount"].lower(), parts["containerRegistry"].lower()} <= scopes
    assert not provide(*sets).changed
    options = [part for one in sets for part in ("--set", one)]
    gone = run("teardown", "--recipe", "phi-azure", *options, "--yes")
    assert gone.code == 0, gone.err
    assert {id_: azure.store.need(id_).body for id_ in before} == before
    assert azure.store.get(f"{SPACES}/corp") is not None
    assert azure.store.get(f"{SPACES}/corp/computes/gpu-cluster") is None
    assert azure.store.get(f"{SPACES}/phi-hub") is None


def test_cluster_of_the_company_that_has_our_name_is_left_alone(azure: FakeAzure) -> None:
    company(azure)
    inner = {"computeType": "AmlCompute", "properties": {"vmSize": "Standard_NC24ads_A100_v4"}}
    theirs = f"{SPACES}/corp/computes/gpu-cluster"
    add(azure, theirs, location="eastus2", properties=inner)
    sets = ("azure.workspace=corp", "azure.existing.workspace=true")
    assert "is there already and not ours" in refused(*sets)
    options = [part for one in sets for part in ("--set", one)]
    for stage in ([], ["--stage", "compute"]):
        run("teardown", "--recipe", "phi-azure", *options, *stage, "--yes")
        assert azure.store.get(theirs) is not None


def test_existing_storage_of_another_group_is_used(azure: FakeAzure) -> None:
    other = add_workspace(azure, "other", "elsewhere")
    storage = azure.store.need(other).properties["storageAccount"]
    made = provide(f"azure.existing.storage={storage}")
    assert made.changed
    accounts = [one.id.text for one in azure.store if one.kind.endswith("/storageaccounts")]
    assert accounts == [storage]
    space = azure.store.need(f"{SPACES}/phi-workspace")
    assert space.properties["storageAccount"] == storage
    assert not provide(f"azure.existing.storage={storage}").changed


def test_existing_part_that_is_not_there_is_one_line(azure: FakeAzure) -> None:
    wrong = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/nowhere"
    line = refused(f"azure.existing.storage={wrong}")
    assert f"azure.existing.storage is not there: {wrong}" in line
    assert list(azure.store) == []


def test_network_of_the_storage_is_told_from_a_role(azure: FakeAzure) -> None:
    storage = derive_names(recipe(), SUBSCRIPTION).storage
    azure.fail(rf"GET {storage}\.blob\.", times=99, how="network")
    line = refused()
    assert f"storage account {storage} refuses the network of this machine" in line
    assert f"az storage account update --name {storage} --public-network-access Enabled" in line
    assert "role" not in line
    assert len(azure.find(rf"GET {storage}\.blob\.")) < 4  # nothing that waiting helps
    azure._faults.clear()
    assert provide().detail


@pytest.mark.parametrize(
    ("offer", "named"),
    [
        (MSDN, "credit of a Visual Studio subscription"),
        ("MPN_2014-09-01", "credit of the Partner Network"),
        ("BizSpark_2014-09-01", "credit of BizSpark"),
        ("BizSparkPlus_2014-09-01", "credit of BizSpark"),
        ("DevEssentials_2016-01-01", "credit of Dev Essentials"),
        ("Sponsored_2016-01-01", "a sponsorship"),
        ("MSDNDevTest_2014-09-01", ""),
        ("PayAsYouGo_2014-09-01", ""),
        ("EnterpriseAgreement_2014-09-01", ""),
    ],
)
def test_offers_are_told_apart(azure: FakeAzure, offer: str, named: str) -> None:
    azure.subscription.offer = offer
    found = doctor("gguf-azure")
    [subscription], [images] = found["subscription"], found["images"]
    assert subscription.ok
    assert images.ok
    assert ("stops with its credit" in subscription.detail) == bool(named)
    assert named in subscription.detail
    on_cluster = "cluster cpu-cluster builds them" in images.detail
    assert on_cluster == bool(named)


@pytest.mark.parametrize("offer", ["FreeTrial_2014-09-01", "LightweightTrial_2016-09-01"])
def test_nothing_is_recommended_that_is_known_to_fail(azure: FakeAzure, offer: str) -> None:
    azure.subscription.offer = offer
    [check] = doctor("phi-azure")["subscription"]
    assert "or --recipe gguf-azure, which needs no GPU" in check.fix
    for family in azure.subscription.limits:
        azure.subscription.limits[family] = 4
    found = doctor("phi-azure")
    assert "gguf-azure" not in found["subscription"][0].fix
    fixes = [check.fix for check in found["quota"] if check.fix]
    assert fixes
    assert not [fix for fix in fixes if "--request" in fix]
    assert all("pay-as-you-go" in fix for fix in fixes)


def test_images_are_built_where_the_registry_builds_none(azure: FakeAzure, tmp_path: Any) -> None:
    """From nothing to an answer on benefit credit, whose registries have no tasks."""
    azure.subscription.offer, azure.subscription.tasks = MSDN, False
    azure.job_states = ["Running", "Completed"]
    for step in ("provision", "data", "finetune", "register", "deploy"):
        ended = run(step, "--recipe", "gguf-azure", "--yes")
        assert ended.code == 0, ended.err
    (space,) = [one for one in azure.store if one.id.name == "gguf-workspace"]
    assert space.properties["imageBuildCompute"] == "cpu-cluster"


def test_refused_tasks_have_a_fix_that_works(azure: FakeAzure) -> None:
    """The offer looks as if it had tasks, and has none."""
    azure.subscription.tasks = False
    azure.job_states = ["Running", "Completed"]
    name = ("--recipe", "gguf-azure")
    for step in ("provision", "data"):
        assert run(step, *name, "--yes").code == 0
    line = run("finetune", *name, "--yes").error
    assert "TasksOperationsNotAllowed" in line
    fix = "provision --recipe gguf-azure --set azure.image_build=cluster"
    assert f"python -m setup {fix}" in line
    assert run(*fix.split(), "--yes").code == 0
    for step in ("finetune", "register", "deploy"):
        assert run(step, *name, "--yes").code == 0
