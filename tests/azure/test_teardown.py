"""Command teardown against the fake: in stages, cut off, and beside what others made."""

from __future__ import annotations

from typing import Any

import pytest

from setup.azure.client import waiting
from setup.azure.client.session import AzureSession
from setup.azure.teardown import Stage, plan_teardown, teardown
from setup.common.errors import FixableError
from setup.common.step import Result
from tests.azure.fake import FakeAzure, faults
from tests.azure.fake.arm import write_resource
from tests.azure.fake.ready import add_compute, add_group, add_role
from tests.azure.fake.store import Id
from tests.azure.provisioned import GROUP, NAMES, SPACES, build, kill_when, provide, recipe

WORKSPACE = f"{SPACES}/phi-workspace"
ENDPOINT = f"{WORKSPACE}/onlineEndpoints/{NAMES.endpoint}"


@pytest.fixture
def standing(azure: FakeAzure) -> FakeAzure:
    """A subscription in which everything stands, an endpoint with a deployment included."""
    build(azure)
    place: dict[str, Any] = {"location": "eastus2", "properties": {"authMode": "Key"}}
    put(azure, ENDPOINT, place)
    model = f"{WORKSPACE}/models/phi-azure/versions/1"
    put(azure, model, {"properties": {"modelType": "mlflow_model", "modelUri": "azureml://a"}})
    properties = {"instanceType": "Standard_NC24ads_A100_v4", "model": model}
    sku = {"name": "Default", "capacity": 2}
    put(azure, f"{ENDPOINT}/deployments/tuned", place | {"properties": properties, "sku": sku})
    azure.clear()
    return azure


def put(azure: FakeAzure, id_: str, body: dict[str, Any]) -> None:
    with azure.lock:
        write_resource(azure, Id(id_), body)


def down(stage: Stage = "all") -> Result:
    return teardown(AzureSession(recipe()), stage, True)


def refusal() -> str:
    """The one line that tearing all down ends in."""
    with pytest.raises(FixableError) as caught:
        down()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_plan_only_reads(standing: FakeAzure) -> None:
    lines = plan_teardown(AzureSession(recipe()))
    endpoint = f"endpoint {NAMES.endpoint} with deployment tuned: "
    endpoint += "2 x Standard_NC24ads_A100_v4, $$$ an hour"
    assert lines[0] == endpoint
    assert lines[1].startswith(
        "cluster gpu-cluster: Standard_NC24ads_A100_v4, $$$ an hour and node"
    )
    assert lines[2] == "project phi-project: nothing"
    assert f"container registry {NAMES.registry}: $ an hour" in lines
    assert lines[-2].startswith("resource group finetune-phi, which is of our making")
    assert len(lines) == 13
    assert plan_teardown(AzureSession(recipe()), "endpoint")[0] == endpoint
    assert standing.writes == []


def test_agreement_is_asked_for(standing: FakeAzure) -> None:
    with pytest.raises(FixableError, match=r"deployment tuned: 2 x .* with --yes"):
        teardown(AzureSession(recipe()), "endpoint")
    assert standing.writes == []


def test_stages(standing: FakeAzure) -> None:
    done = down("endpoint")
    assert done.changed
    assert done.detail == "no endpoint of recipe phi-azure is left in workspace phi-workspace"
    assert standing.store.get(ENDPOINT) is None
    assert [one.method for one in standing.writes] == ["DELETE"]
    assert not down("endpoint").changed
    add_compute(standing, WORKSPACE, "of-somebody", "Standard_D4s_v3")
    done = down("compute")
    assert done.changed
    assert "not the recipe's, and still there: cluster of-somebody: Standard_D4s_v3" in done.detail
    assert standing.store.get(f"{WORKSPACE}/computes/gpu-cluster") is None
    assert standing.store.get(f"{WORKSPACE}/computes/of-somebody")
    assert {one.method for one in standing.writes} == {"DELETE"}
    assert provide().changed


def test_all(standing: FakeAzure) -> None:
    done = down()
    empty = "group finetune-phi is empty: nothing billable is left; the group is deleted too"
    assert done.detail == empty
    assert list(standing.store) == []
    assert standing.subscription.soft_deleted == {}
    assert standing.subscription.used == {}
    assert [one.path.rpartition("/")[2] for one in standing.find("DELETE ")] == [
        NAMES.endpoint,
        "gpu-cluster",
        "phi-project",
        *("phi-workspace", "phi-hub"),
        NAMES.logs,
        "finetune-phi",
    ]  # the rest goes with the group, but the log workspace, which would keep its name and data
    again = down()
    assert not again.changed
    assert again.detail == "group finetune-phi is not there: nothing billable is left"
    assert provide().changed


def test_killed_and_run_again(standing: FakeAzure) -> None:
    standing.operations.polls = 6
    kill_when(standing, "DELETE .*/phi-project$", "teardown", "--recipe", "phi-azure", "--yes")
    assert standing.store.get(GROUP)
    assert down().detail.startswith("group finetune-phi is empty: nothing billable is left")
    assert list(standing.store) == []
    assert standing.subscription.soft_deleted == {}


def test_killed_while_the_group_goes(standing: FakeAzure) -> None:
    standing.operations.polls = 6
    kill_when(standing, "DELETE .*/finetune-phi[?]?$", "teardown", "--recipe", "phi-azure", "--yes")
    assert standing.store.need(GROUP).properties["provisioningState"] == "Deleting"
    assert down().detail == "group finetune-phi is not there: nothing billable is left"
    assert list(standing.store) == []
    assert standing.subscription.soft_deleted == {}


def test_group_of_somebody_else(azure: FakeAzure) -> None:
    add_group(azure, "finetune-phi")
    azure.store.need(GROUP).body["tags"] = {"finetune-phi": "shared"}
    theirs = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/theirs"
    put(azure, theirs, {"location": "eastus2", "properties": {}})
    mine = add_role(azure, theirs, azure.login.principal, "Storage Blob Data Reader")
    provide("azure.roles=contributor")
    done = down()
    assert done.detail == (
        "nothing billable of ours is left; group finetune-phi stays with what others made: "
        "storageAccounts theirs"
    )
    kept = {one.id.text for one in azure.store if "/deployments/" not in one.id.key}
    assert kept == {GROUP, theirs, mine}
    azure.clear()
    assert not down().changed
    assert azure.writes == []


def test_group_of_ours_with_what_others_put_there(azure: FakeAzure) -> None:
    build(azure)
    theirs = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/theirs"
    put(azure, theirs, {"location": "eastus2", "properties": {}})
    rule = f"{GROUP}/providers/microsoft.alertsManagement/smartDetectorAlertRules/failures"
    put(azure, rule, {"location": "global", "properties": {}})
    rest = "storageAccounts theirs, smartDetectorAlertRules failures"
    assert down().detail.endswith(f"stays with what others made: {rest}")
    assert azure.store.get(theirs)
    azure.store.delete(theirs)
    assert down().detail.endswith("the group is deleted too")


def test_workspace_that_is_not_ours(azure: FakeAzure) -> None:
    build(azure)
    del azure.store.need(WORKSPACE).body["tags"]
    azure.clear()
    with pytest.raises(FixableError, match=r"workspace phi-workspace is .* not ours"):
        down("compute")
    with pytest.raises(FixableError, match="to give it to us: az tag update"):
        down()
    assert azure.writes == []


def test_what_others_run_in_our_workspace_is_not_deleted(standing: FakeAzure) -> None:
    theirs = f"{WORKSPACE}/onlineEndpoints/theirs"
    put(standing, theirs, {"location": "eastus2", "properties": {}})
    machine = add_compute(standing, WORKSPACE, "of-somebody", "Standard_D4s_v3")
    standing.clear()
    marked = [
        one
        for one in plan_teardown(AzureSession(recipe()))
        if "teardown refuses while it is there" in one
    ]
    assert [one.partition(":")[0] for one in marked] == ["endpoint theirs", "cluster of-somebody"]
    line = refusal()
    assert "hold what is not ours: endpoint theirs: nothing; cluster of-somebody: " in line
    assert "--stage endpoint" in line
    assert standing.writes == []
    assert down("endpoint").changed
    standing.store.delete(theirs)
    standing.store.delete(machine)
    assert "nothing billable is left" in down().detail


def test_faults(standing: FakeAzure) -> None:
    standing.fail("DELETE .*/onlineEndpoints/", times=2)
    standing.fail("GET .*/resources$", times=1, how="token")
    standing.fail("DELETE .*/computes/", times=2, how="conflict")
    standing.fail("DELETE .*/phi-workspace$", times=5, how="dropped")
    line = refusal()
    assert line.startswith("deleting workspace phi-workspace: the connection to Azure failed")
    assert standing.store.get(f"{WORKSPACE}/computes/gpu-cluster") is None
    assert down().detail.startswith("group finetune-phi is empty: nothing billable is left")
    assert list(standing.store) == []


def test_a_refusal_keeps_nothing_else_from_being_deleted(standing: FakeAzure) -> None:
    second = {"location": "eastus2", "properties": {}, "tags": {"finetune-phi": "made"}}
    put(standing, f"{WORKSPACE}/onlineEndpoints/second", second)
    standing.fail(f"DELETE .*/{NAMES.endpoint}$", times=1, how="forbidden")
    assert refusal().startswith(f"deleting endpoint {NAMES.endpoint} with deployment tuned: Azure")
    assert standing.store.get(f"{WORKSPACE}/onlineEndpoints/second") is None
    assert down().changed
    assert list(standing.store) == []


def test_roles_in_a_group_of_somebody_else(standing: FakeAzure) -> None:
    """Those of the managed identity, and those that Azure gives the workspaces themselves."""
    standing.store.need(GROUP).body["tags"] = {"finetune-phi": "shared"}
    hub = standing.store.need(f"{SPACES}/phi-hub").body["identity"]["principalId"]
    add_role(standing, GROUP, hub, "Azure AI Administrator")
    mine = add_role(standing, GROUP, standing.login.principal, "Owner")
    standing.fail("DELETE .*/roleAssignments/", times=1, how="forbidden")
    assert down().detail.endswith("; the roles of our identities stay: you may not take them")
    assert {one.id.text for one in standing.store if "/roleAssignments/" in one.id.text} > {mine}
    build(standing)
    standing.store.need(GROUP).body["tags"] = {"finetune-phi": "shared"}
    hub = standing.store.need(f"{SPACES}/phi-hub").body["identity"]["principalId"]
    add_role(standing, GROUP, hub, "Azure AI Administrator")
    mine = add_role(standing, GROUP, standing.login.principal, "Owner")
    assert "is empty: nothing billable is left; it is not ours and stays" in down().detail
    left = {one.id.text for one in standing.store if "/deployments/" not in one.id.text}
    assert left == {GROUP, mine}


def test_lock_is_no_operation_to_wait_for(
    standing: FakeAzure, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = (409, "ScopeLocked", "The scope cannot be deleted: it is locked.")
    monkeypatch.setitem(faults._REFUSALS, "conflict", locked)
    monkeypatch.setattr(waiting, "BUSY_FOR", 0.2)
    standing.fail("DELETE .*/onlineEndpoints/", times=99, how="conflict")
    with pytest.raises(FixableError, match="az lock list"):
        down("endpoint")


def test_what_stays_is_told(azure: FakeAzure, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resource that Azure says is deleted, and that is there all the same."""
    build(azure)
    monkeypatch.setattr("setup.azure.teardown.delete_all", lambda *_: None)
    line = refusal()
    assert line.startswith("still there after it was deleted: cluster gpu-cluster, project")
    assert "python -m setup teardown" in line
    assert azure.store.get(GROUP)


def test_deployment_under_way_ends_first(azure: FakeAzure, monkeypatch: pytest.MonkeyPatch) -> None:
    azure.operations.polls = 6
    azure.fail("GET .*/operations$", times=5, how="dropped")
    with pytest.raises(FixableError, match="connection"):
        provide()
    azure.clear()
    assert down().changed
    first = azure.writes[0]
    looks = [
        one for one in azure.requests[: azure.requests.index(first)] if "/deployments/" in one.path
    ]
    assert len(looks) > 2
    assert list(azure.store) == []
