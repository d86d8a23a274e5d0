"""Step provision when Azure refuses, is slow, or cannot be reached: one line, and again."""

from __future__ import annotations

import pytest

from setup.azure.client.session import AzureSession
from setup.azure.provision import inventory, roles
from setup.azure.provision import step as provision
from setup.azure.provision.inventory import Survey
from tests.azure.fake import FakeAzure
from tests.azure.fake.arm import remove
from tests.azure.fake.ready import add_role
from tests.azure.fake.supporting import ASSIGNMENT
from tests.azure.provisioned import (
    DEPLOYMENT,
    NAMES,
    SPACES,
    STORAGE,
    assignments,
    build,
    provide,
    refused,
)

BLOBS = rf"GET {NAMES.storage}\.blob\."


def test_throttling_is_waited_out_within_bounds(azure: FakeAzure) -> None:
    azure.fail(DEPLOYMENT, times=3)
    azure.fail("GET .*/operations$", times=2)
    assert provide().changed
    azure.clear()
    azure.fail("GET .*/resourcegroups/finetune-phi$", times=99)
    assert "Azure answered 429" in refused()
    assert len(azure.requests) < 12


def test_connection_lost_in_the_middle(azure: FakeAzure) -> None:
    azure.operations.polls = 9
    azure.fail(DEPLOYMENT, how="lost")
    azure.fail("GET .*/deployments/finetune-phi-phi-azure/operations$", times=5, how="dropped")
    line = refused()
    assert "the connection to Azure failed" in line
    assert "run the same command again" in line
    puts = len(azure.find(DEPLOYMENT))
    assert provide().changed
    assert len(azure.find(DEPLOYMENT)) == puts
    assert not provide().changed


def test_token_expired_in_the_middle(azure: FakeAzure, monkeypatch: pytest.MonkeyPatch) -> None:
    follow = provision._follow
    expired: list[AzureSession] = []

    def expire(session: AzureSession, survey: Survey) -> None:
        if not expired:
            expired.append(session)
            azure.login.expire()
        follow(session, survey)

    monkeypatch.setattr(provision, "_follow", expire)
    assert provide().changed
    assert expired
    assert [one.status for one in azure.requests].count(401) == 1
    assert len(azure.find(DEPLOYMENT)) == 1


def test_roles_that_there_are_by_another_name(azure: FakeAzure) -> None:
    build(azure)
    before = assignments(azure)
    for one in list(azure.store):
        if one.kind == ASSIGNMENT and one.properties["principalId"] == azure.login.principal:
            azure.store.delete(one.id.text)
    remove(azure, f"{SPACES}/phi-project")
    add_role(azure, STORAGE, azure.login.principal, "Storage Blob Data Contributor")
    assert provide().changed
    assert assignments(azure) == before
    azure.clear()
    assert not provide().changed
    assert azure.writes == []


def test_quota_of_the_cluster_is_refused(azure: FakeAzure) -> None:
    message = "Operation could not be completed as it results in exceeding approved quota."
    azure.fail_resource("/computes/gpu-cluster$", message, code="QuotaExceeded")
    line = refused()
    assert line.startswith("making cluster gpu-cluster: Azure answered 400 QuotaExceeded")
    assert "python -m setup quota --request" in line
    assert provide().changed


@pytest.mark.parametrize(
    ("resource", "code", "message", "fix"),
    [
        (
            "/storageAccounts/",
            "StorageAccountAlreadyTaken",
            "The name is already taken.",
            "--set azure.storage=NAME",
        ),
        (
            "/phi-hub$",
            "Conflict",
            "Soft-deleted workspace exists. Please purge or recover it.",
            "--set azure.hub=NAME, or https://portal.azure.com",
        ),
    ],
)
def test_name_that_is_taken(
    azure: FakeAzure, resource: str, code: str, message: str, fix: str
) -> None:
    azure.fail_resource(resource, message, code=code)
    assert f"Fix: {fix}" in refused()


def test_rights_on_the_group_alone_are_enough(azure: FakeAzure) -> None:
    azure.fail("GET management.azure.com/subscriptions/[^/]+/providers$", times=9, how="forbidden")
    azure.fail("GET .*/deletedVaults/", times=9, how="forbidden")
    assert provide().changed


def test_what_a_policy_changes_is_no_failure(
    azure: FakeAzure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would never be as the template has it, however often that is deployed."""
    build(azure)
    monkeypatch.setattr(inventory, "differences", lambda *_: ["tags"])
    assert provide().changed


def test_registry_is_asked_before_anything_is_made(azure: FakeAzure) -> None:
    azure.catalog.models["Phi-4/8"] = {"isArchived": True}
    assert "the registry says archived" in refused()
    assert azure.writes == []


def test_roles_take_their_time(azure: FakeAzure, monkeypatch: pytest.MonkeyPatch) -> None:
    azure.fail(BLOBS, times=3, how="forbidden")
    assert provide().changed
    assert [one.status for one in azure.find(BLOBS)] == [403, 403, 403, 200]
    azure.fail(BLOBS, times=9, how="forbidden")
    monkeypatch.setattr(roles, "PATIENCE", 0.1)
    azure.clear()
    assert "you still may not read storage account" in refused()
    assert azure.writes == []
