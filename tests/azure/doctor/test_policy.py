"""What policies of a company would refuse or change: found before anything is made."""

from __future__ import annotations

from dataclasses import replace

import pytest

from setup.azure.client.session import AzureSession
from setup.azure.doctor.policy import policy_checks
from setup.common.checks import Check
from setup.recipe.load import load_azure_recipe
from tests.azure.fake import FakeAzure
from tests.azure.fake.policy import Policy
from tests.azure.provisioned import NAMES, build, provide, refused
from tests.azure.trainable import listen

STORAGE = r"^Microsoft\.Storage/storageAccounts$"
NO_PUBLIC = Policy("No public storage", "deny", STORAGE, "publicNetworkAccess", "Enabled")
CLOSES = Policy("Close the storage", "modify", STORAGE, "publicNetworkAccess", "Disabled")
VAULT = r"^Microsoft\.KeyVault/vaults$"
PURGE = Policy("Vaults need purge protection", "deny", VAULT, "enablePurgeProtection", None)


def asked(*sets: str) -> list[Check]:
    """What doctor says of policies."""
    return [*policy_checks(AzureSession(load_azure_recipe("phi-azure", list(sets))))]


@pytest.mark.parametrize("there", [False, True])
def test_nothing_is_in_the_way(azure: FakeAzure, there: bool) -> None:
    """Before there is a group, and after: nothing is made by asking."""
    if there:
        build(azure)
    before = {one.id.key for one in azure.store}
    [check] = asked()
    assert check.ok
    assert "none refuses or changes the template" in check.detail
    assert azure.writes == []
    assert {one.id.key for one in azure.store} == before


@pytest.mark.parametrize(
    ("policy", "fix"),
    [
        (replace(NO_PUBLIC, name="Baseline 7"), "azure.public_network=false"),
        (replace(PURGE, name="Baseline 9"), "azure.purge_protection=true"),
    ],
)
def test_way_round_a_denial_that_names_nothing_is_found(
    azure: FakeAzure, policy: Policy, fix: str
) -> None:
    azure.policies = [policy]
    [check] = asked()
    assert check.fix.startswith(f"--set {fix}, or ask who runs the subscription")
    azure.policies.append(replace(policy, kind="workspaces$", setting="colour", value=None))
    assert all(check.fix.startswith("ask who runs") for check in asked())


@pytest.mark.parametrize(
    ("policy", "fix"),
    [(NO_PUBLIC, "azure.public_network=false"), (PURGE, "azure.purge_protection=true")],
)
def test_denial_is_named_and_its_fix_works(azure: FakeAzure, policy: Policy, fix: str) -> None:
    azure.policies = [policy]
    [check] = asked()
    assert f"a policy denies it: {policy.name} (assignment corp-1)" in check.detail
    assert check.fix.startswith(f"--set {fix}, or ask who runs the subscription")
    assert all(check.ok for check in asked(fix))
    line = refused()  # the deployment itself, where nobody asked before
    assert f"{policy.name}" in line
    assert f"--set {fix}" in line
    azure.clear()
    azure.inside_network = True
    assert "10 resources" in provide(fix).detail


def test_silent_change_is_told_before_and_after(
    azure: FakeAzure, monkeypatch: pytest.MonkeyPatch
) -> None:
    azure.policies = [CLOSES]
    [check] = asked()
    assert "a policy would change phi" in check.detail
    assert "publicNetworkAccess Disabled, the recipe says Enabled" in check.detail
    assert check.fix.startswith("--set azure.public_network=false, or ask")
    told = listen(monkeypatch)
    line = refused()  # nobody asked: the storage is made, and lets nobody in
    assert "refuses the network of this machine (403 AuthorizationFailure)" in line
    assert f"storage account {NAMES.storage}: publicNetworkAccess Disabled" in told.getvalue()
    azure.inside_network = True
    assert provide("azure.public_network=false").changed
    assert not provide("azure.public_network=false").changed


def test_login_without_the_right_to_ask_goes_on(azure: FakeAzure) -> None:
    azure.fail(r"POST .*/validate", times=9, how="forbidden")
    [check] = asked()
    assert check.ok
    assert "you may not ask ARM to validate" in check.detail
