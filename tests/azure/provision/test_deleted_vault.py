"""Command teardown and the key vault, which keeps its name until it is purged."""

from __future__ import annotations

from setup.azure.client.session import AzureSession
from setup.azure.teardown import plan_teardown, teardown
from tests.azure.fake import FakeAzure
from tests.azure.provisioned import NAMES, build, recipe


def test_vault_that_may_not_be_purged(azure: FakeAzure) -> None:
    build(azure)
    azure.fail("POST .*/purge$", how="forbidden")
    kept = f"deleted key vault {NAMES.key_vault} keeps its name for days"
    assert kept in teardown(AzureSession(recipe()), yes=True).detail
    assert list(azure.store) == []
    assert plan_teardown(AzureSession(recipe()))[0].startswith(
        f"deleted key vault {NAMES.key_vault}"
    )
    assert teardown(AzureSession(recipe()), yes=True).changed
    assert azure.subscription.soft_deleted == {}


def test_deleted_vaults_that_may_not_be_looked_for(azure: FakeAzure) -> None:
    """With rights on the group alone nobody knows whether the name is free."""
    build(azure)
    azure.fail("GET .*/deletedVaults/", times=99, how="forbidden")
    done = teardown(AzureSession(recipe()), yes=True)
    assert done.detail.endswith(
        f"; key vault {NAMES.key_vault} may keep its name for days: "
        "you may not look for deleted ones"
    )
    assert list(azure.store) == []
    again = teardown(AzureSession(recipe()), yes=True)
    assert again.detail == "group finetune-phi is not there: nothing billable is left"
