"""Step provision against the fake: from nothing, again, interrupted, and with every fault."""

from __future__ import annotations

import re

import pytest

from setup.azure.client.session import AzureSession
from setup.azure.provision import roles
from setup.azure.provision import step as provision
from setup.azure.provision.inventory import find_all, wanted_resources
from setup.common.errors import FixableError
from tests.azure.commands import run_setup
from tests.azure.fake import FakeAzure
from tests.azure.fake.arm import remove
from tests.azure.fake.contracts import Contracts
from tests.azure.fake.ready import add_group
from tests.azure.fake.supporting import ROLES
from tests.azure.provisioned import (
    CLUSTER,
    DEPLOYMENT,
    GROUP,
    NAMES,
    STORAGE,
    VAULT,
    assignments,
    build,
    kill_when,
    provide,
    recipe,
    refused,
)


def state(azure: FakeAzure) -> set[str]:
    """The ids of everything but deployments."""
    return {one.id.key for one in azure.store if "/deployments/" not in one.id.key}


def test_from_nothing_and_again(azure: FakeAzure, contracts: Contracts) -> None:
    done = provide()
    assert done.changed
    assert done.next.startswith("python -m setup data --recipe phi-azure")
    assert [request.method for request in azure.writes] == ["PUT", "PUT"]
    assert all(request.contract for request in azure.writes)
    group = azure.store.need(GROUP)
    assert group.body["tags"] == {"purpose": "finetune-phi", "finetune-phi": "made"}
    azure.clear()
    again = provide()
    assert not again.changed
    assert again.detail == done.detail
    assert azure.writes == []
    assert azure.violations == []


def test_inventory_is_what_the_template_makes(azure: FakeAzure) -> None:
    build(azure)
    session = AzureSession(recipe())
    wanted = wanted_resources(session)
    beside = ("/datastores/", "/deployments/", "/roleassignments/")
    made = {key for key in state(azure) if not any(part in key for part in beside)}
    assert {one.path.lower() for one in wanted} == made - {GROUP.lower()}
    assert all(azure.store.need(one.path).id.kind == one.kind for one in wanted)
    given = roles.wanted_roles(session, find_all(session, wanted))
    assert {(one.scope.lower(), one.principal, one.role) for one in given} == assignments(azure)


def test_contributor_role(azure: FakeAzure) -> None:
    provide("azure.roles=contributor")
    assert (GROUP.lower(), ROLES["Contributor"]) in {
        (scope, role) for scope, _, role in assignments(azure)
    }
    azure.clear()
    assert not provide("azure.roles=contributor").changed
    assert azure.writes == []


def test_plan_only_reads(azure: FakeAzure) -> None:
    azure.subscription.providers["Microsoft.Insights"] = False
    lines = provision.plan(AzureSession(recipe()))
    assert lines[0] == "register resource provider Microsoft.Insights"
    assert len(lines) == 14
    assert any(
        re.match("cluster gpu-cluster, Standard_NC24ads_A100_v4: \\$\\$\\$ ", one) for one in lines
    )
    assert not any("exist" in line for line in lines)
    assert azure.writes == []
    provide()
    assert azure.subscription.providers["Microsoft.Insights"]
    azure.clear()
    lines = provision.plan(AzureSession(recipe("finetune.compute.nodes=2")))
    assert sum("(exist" in line for line in lines) == 12
    assert any("(exists, to be changed: 1 nodes)" in line for line in lines)
    assert azure.writes == []


def test_dry_run_and_no_agreement_write_nothing(azure: FakeAzure) -> None:
    dry = run_setup("provision", "--recipe", "phi-azure", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert f"container registry {NAMES.registry}, Basic: $ an hour" in dry.stdout
    with pytest.raises(FixableError, match=r"storage, registry.*with --yes"):
        provision.run(AzureSession(recipe()))
    assert azure.writes == []


@pytest.mark.parametrize(
    ("value", "replacement"),
    [
        (
            "model.source=azureml://registries/azureml/models/Phi-3-mini-4k-instruct/versions/15",
            "Phi-4",
        ),
        ("finetune.compute.sku=Standard_NC6s_v3", "Standard_NC24ads_A100_v4"),
    ],
)
def test_retired_is_refused_before_anything(azure: FakeAzure, value: str, replacement: str) -> None:
    assert replacement in refused(value)
    assert azure.requests == []


def test_group_of_somebody_else(azure: FakeAzure) -> None:
    add_group(azure, "finetune-phi")
    azure.store.need(GROUP).body["tags"] = {"owner": "sales"}
    line = refused()
    assert "finetune-phi is there already and not ours" in line
    assert f"--resource-id {GROUP} --tags finetune-phi=shared" in line
    assert azure.writes == []
    azure.store.need(GROUP).body["tags"]["finetune-phi"] = "shared"
    assert provide().changed
    assert azure.store.need(GROUP).body["tags"] == {"owner": "sales", "finetune-phi": "shared"}


def test_resource_of_somebody_else(azure: FakeAzure) -> None:
    build(azure)
    del azure.store.need(STORAGE).body["tags"]
    azure.clear()
    assert "--set azure.storage=NAME" in refused()
    assert azure.writes == []


def test_only_a_difference_is_deployed(azure: FakeAzure) -> None:
    build(azure)
    azure.store.need(STORAGE).body["tags"].pop("purpose")
    azure.store.need(CLUSTER).properties["properties"]["scaleSettings"]["maxNodeCount"] = 4
    azure.clear()
    assert provide().changed
    assert len(azure.writes) == len(azure.find(DEPLOYMENT)) == 1
    assert "purpose" in azure.store.need(STORAGE).body["tags"]
    settings = azure.store.need(CLUSTER).properties["properties"]["scaleSettings"]
    assert settings["maxNodeCount"] == 1


def test_what_no_deployment_can_change(azure: FakeAzure) -> None:
    build(azure)
    line = refused("finetune.compute.sku=Standard_NC40ads_H100_v5")
    assert "teardown --stage compute" in line
    assert "is in eastus2, the recipe says westus3" in refused("azure.location=westus3")
    assert azure.writes == []


def test_deleted_vault_is_taken_back(azure: FakeAzure) -> None:
    build(azure)
    remove(azure, VAULT)
    remove(azure, CLUSTER)
    assert any(
        "(deleted earlier: taken back)" in line for line in provision.plan(AzureSession(recipe()))
    )
    provide()
    assert azure.store.need(VAULT).properties["createMode"] == "recover"
    assert azure.subscription.soft_deleted == {}
    azure.clear()
    assert not provide().changed
    assert azure.writes == []


def test_deleted_vault_of_another_group(azure: FakeAzure) -> None:
    other = VAULT.replace("finetune-phi", "other").lower()
    azure.subscription.soft_deleted[other] = {}
    assert f"az keyvault purge --name {NAMES.key_vault}" in refused()
    assert azure.writes == []


def test_killed_and_run_again(azure: FakeAzure) -> None:
    azure.operations.polls = 8
    kill_when(azure, "GET .*/operations$", "provision", "--recipe", "phi-azure", "--yes")
    assert azure.store.need(
        f"{GROUP}/providers/Microsoft.Resources/deployments/finetune-phi-phi-azure"
    )
    assert provide().changed
    assert len(azure.find(DEPLOYMENT)) == 1
    after = state(azure)
    assert not provide().changed
    assert state(azure) == after
