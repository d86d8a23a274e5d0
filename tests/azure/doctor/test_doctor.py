"""``doctor`` for target azure against a fake subscription: each finding, its fix, no write."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from setup.azure.client.names import derive_names
from setup.azure.client.session import AzureSession
from setup.azure.doctor.findings import run_azure_checks
from setup.common.checks import Check
from setup.recipe.load import load_azure_recipe
from tests.azure.commands import run_setup
from tests.azure.fake import FakeAzure
from tests.azure.fake.store import Id
from tests.azure.fake.subscription import SUBSCRIPTION
from tests.home import failed

HUB = "model.source=microsoft/Phi-4-mini-instruct"
A100 = "standardNCADSA100v4Family"


def _doctor(*sets: str, recipe: str = "phi-azure") -> dict[str, list[Check]]:
    found: dict[str, list[Check]] = {}
    given = [HUB, *sets] if recipe == "phi-azure" else [*sets]
    for check in run_azure_checks(AzureSession(load_azure_recipe(recipe, given))):
        found.setdefault(check.name, []).append(check)
    return found


def _only(checks: list[Check]) -> Check:
    [check] = checks
    return check


def test_good_subscription_has_no_finding_and_is_only_read(azure: FakeAzure) -> None:
    found = _doctor()
    assert [check for checks in found.values() for check in checks if not check.ok] == []
    assert azure.writes == []
    assert len(found["quota"]) == 2
    assert "0 of 96 are in use" in found["quota"][0].detail
    assert "$$$ an hour until it is deleted" in _only(found["price"]).detail
    assert azure.login.secret not in str(found)


def test_command_line_serves_both_targets(
    azure: FakeAzure, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run_setup("doctor", "--target", "azure", "--set", HUB, "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert report["ok"] is True
    assert {"login", "quota", "rights"} <= {check["name"] for check in report["checks"]}
    assert done.stderr == ""
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "of-somebody-else")
    done = run_setup("doctor", "--target", "azure")
    assert done.returncode == 1
    assert "AADSTS7000215" in done.stdout
    assert "of-somebody-else" not in done.stdout + done.stderr
    other = run_setup("doctor", "--target", "azure", "--recipe", "laptop")
    assert "is for target local" in failed(other)
    assert "--target local or azure" in failed(run_setup("doctor", "--target", "moon"))


def test_nobody_is_signed_in(azure: FakeAzure, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", "")  # no az, no azd
    found = _doctor()
    login = _only(found["login"])
    assert "not signed in to Azure" in login.detail
    assert login.fix.endswith("then az login")
    assert "quota" not in found


def test_token_that_azure_no_longer_takes(azure: FakeAzure) -> None:
    azure.fail(r"GET management.azure.com/subscriptions/[^/]+$", how="token")
    login = _only(_doctor()["login"])
    assert "Azure answered 401" in login.detail
    assert "az login" in login.fix


def test_throttling_and_lost_connections_are_waited_out(azure: FakeAzure) -> None:
    azure.fail(r"/vmSizes", how="throttled")
    azure.fail(r"/usages", how="dropped")
    assert all(check.ok for checks in _doctor().values() for check in checks)


def test_connection_that_stays_lost_is_told_as_such(azure: FakeAzure) -> None:
    azure.fail(r"/vmSizes", times=99, how="dropped")
    region = _only(_doctor()["region"])
    assert "the connection to Azure failed" in region.detail
    assert "run the same command again" in region.fix


def test_subscription_that_does_not_exist(azure: FakeAzure) -> None:
    found = _doctor("azure.subscription=00000000-0000-4000-8000-000000000000")
    assert "SubscriptionNotFound" in _only(found["login"]).detail
    assert "--set azure.subscription=ID" in _only(found["login"]).fix


def test_subscription_of_another_tenant(azure: FakeAzure) -> None:
    tenant = "99999999-9999-4999-8999-999999999999"
    unknown = _only(_doctor(f"azure.tenant={tenant}")["login"])
    assert "AADSTS90002" in unknown.detail
    assert "correct azure.tenant" in unknown.fix
    azure.login.tenants.append(tenant)
    other = _only(_doctor(f"azure.tenant={tenant}")["login"])
    assert f"--set azure.tenant={azure.login.tenant}" in other.fix  # the subscription's own


def test_login_of_two_tenants_is_asked_for_the_subscriptions(azure: FakeAzure) -> None:
    """The login stands on the one, the subscription is of the other: the fix works as printed."""
    tenant = "99999999-9999-4999-8999-999999999999"
    azure.login.tenants.append(tenant)
    azure.subscription.tenant = tenant
    fix = _only(_doctor()["login"]).fix
    assert fix.startswith(f"--set azure.tenant={tenant}; ")
    assert all(
        check.ok for checks in _doctor(f"azure.tenant={tenant}").values() for check in checks
    )


def test_subscription_that_az_has_set_is_taken(
    azure: FakeAzure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_SUBSCRIPTION_ID")
    azure.subscription.others = ["55555555-5555-4555-8555-555555555555"]
    refused = _only(_doctor()["login"])
    assert "the login has 2 subscriptions" in refused.detail
    assert refused.fix.startswith("az account set --subscription ID")
    folder = Path(os.environ["AZURE_CONFIG_DIR"])
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"id": id_, "isDefault": id_ == SUBSCRIPTION} for id_ in ("another", SUBSCRIPTION)]
    profile = json.dumps({"subscriptions": rows})
    (folder / "azureProfile.json").write_text(profile, encoding="utf-8-sig")  # as az writes it
    assert SUBSCRIPTION in _only(_doctor()["login"]).detail
    (folder / "azureProfile.json").write_text("{", encoding="utf-8")
    assert "the login has 2 subscriptions" in _only(_doctor()["login"]).detail


@pytest.mark.parametrize("by", ["AZURE_SDK_CLOUD_CONF", "AZURE_AUTHORITY_HOST", "az"])
def test_other_clouds_are_refused(
    azure: FakeAzure, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    if by == "az":
        folder = Path(os.environ["AZURE_CONFIG_DIR"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config").write_text("[cloud]\nname = AzureUSGovernment\n", encoding="utf-8")
    else:
        says = {"AZURE_SDK_CLOUD_CONF": "AZURE_CHINA_CLOUD"}.get(
            by, "https://login.chinacloudapi.cn"
        )
        monkeypatch.setenv(by, says)
    login = _only(_doctor()["login"])
    assert "this works in Azure's public cloud alone" in login.detail
    assert login.fix
    assert azure.requests == []


def test_only_subscription_of_the_login_is_taken(
    azure: FakeAzure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_SUBSCRIPTION_ID")
    assert SUBSCRIPTION in _only(_doctor()["login"]).detail
    azure.subscription.state = "Disabled"
    assert "no enabled subscription" in _only(_doctor()["login"]).detail


def test_disabled_subscription(azure: FakeAzure) -> None:
    azure.subscription.state = "Warned"
    assert "it is Warned" in _only(_doctor()["subscription"]).detail


def test_provider_that_is_not_registered(azure: FakeAzure) -> None:
    azure.subscription.providers["Microsoft.KeyVault"] = False
    check = _only(_doctor()["providers"])
    assert check.fix == "az provider register --wait --namespace Microsoft.KeyVault"


def test_no_right_to_assign_roles(azure: FakeAzure) -> None:
    azure.subscription.not_actions = ["Microsoft.Authorization/*/Write"]
    check = _only(_doctor()["rights"])
    assert "Microsoft.Authorization/roleAssignments/write" in check.detail
    assert '--role "Role Based Access Control Administrator"' in check.fix
    assert "Contributor" not in check.fix
    azure.subscription.actions = ["*/read"]
    assert '--role "Contributor"' in _only(_doctor()["rights"]).fix


def test_region_without_the_sku(azure: FakeAzure) -> None:
    check = _only(_doctor("endpoint.sku=Standard_NC96ads_A100_v4")["region"])
    assert "eastus2 does not offer Standard_NC96ads_A100_v4" in check.detail
    assert "azure.location" in check.fix
    assert not _only(_doctor("azure.location=atlantis")["region"]).ok


def test_too_few_cores(azure: FakeAzure) -> None:
    azure.subscription.limits[A100] = 0
    checks = _doctor()["quota"]
    assert [check.ok for check in checks] == [False, False]
    assert checks[0].fix == (
        f"python -m setup quota --recipe phi-azure --set {HUB} --set azure.location=eastus2 "
        f"--family '{A100}' --request 24"
    )


def test_names_that_others_have(azure: FakeAzure) -> None:
    names = derive_names(load_azure_recipe("phi-azure", []), SUBSCRIPTION)
    elsewhere = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/elsewhere/providers"
    storage = f"{elsewhere}/Microsoft.Storage/storageAccounts/{names.storage}"
    azure.store.put(Id(storage), {"location": "eastus2"})
    vault = f"{elsewhere}/Microsoft.KeyVault/vaults/{names.key_vault}"
    azure.subscription.soft_deleted[vault.lower()] = {}
    found = _doctor()
    assert _only(found["storage"]).fix == "--set azure.storage=NAME"
    assert f"az keyvault purge --name {names.key_vault}" in _only(found["key vault"]).fix
    assert _only(found["registry"]).ok


def test_names_that_are_ours(azure: FakeAzure) -> None:
    names = derive_names(load_azure_recipe("phi-azure", []), SUBSCRIPTION)
    group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{names.group}"
    storage = f"{group}/providers/Microsoft.Storage/storageAccounts/{names.storage}"
    for path in (group, storage):
        azure.store.put(Id(path), {"location": "eastus2", "tags": {"finetune-phi": "made"}})
    vault = f"{group}/providers/Microsoft.KeyVault/vaults/{names.key_vault}"
    azure.subscription.soft_deleted[vault.lower()] = {"tags": {"finetune-phi": "made"}}
    found = _doctor()
    assert f"{names.group} is there" in _only(found["resource group"]).detail
    assert f"{names.storage} is ours" in _only(found["storage"]).detail
    assert "takes it back" in _only(found["key vault"]).detail
    azure.store.need(group).body["tags"] = azure.store.need(storage).body["tags"] = {}
    found = _doctor()
    for title in ("resource group", "storage"):
        assert "is there already and not ours" in _only(found[title]).detail
        assert "az tag update" in _only(found[title]).fix


def test_cpu_recipe_needs_no_gpu(azure: FakeAzure) -> None:
    checks = _doctor(recipe="gguf-azure")["quota"]
    assert "needs 4 cores" in checks[0].detail
    assert "needs 8 cores" in checks[1].detail


def test_free_trial_gets_no_gpu(azure: FakeAzure, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.azure.fake import subscription

    known = subscription._described
    offer = {"subscriptionPolicies": {"quotaId": "FreeTrial_2014-09-01"}}
    monkeypatch.setattr(subscription, "_described", lambda fake: known(fake) | offer)
    assert "a free trial" in _only(_doctor()["subscription"]).detail
    assert _only(_doctor(recipe="gguf-azure")["subscription"]).ok


def test_forbidden_read_is_a_finding_and_no_end(azure: FakeAzure) -> None:
    azure.fail(r"/permissions", times=9, how="forbidden")
    azure.fail(r"/subscriptions/[^/]+/providers$", times=9, how="forbidden")
    azure.fail(r"/checkNameAvailability", times=9, how="forbidden")
    found = _doctor()
    assert "403" in _only(found["rights"]).detail
    assert "you may not ask" in _only(found["registry"]).detail
    assert "you may not list them" in _only(found["providers"]).detail
    assert _only(found["providers"]).ok
    assert _only(found["registry"]).ok
    assert _only(found["price"]).ok


def test_registry_is_asked_about_its_model(azure: FakeAzure) -> None:
    source = "model.source=azureml://registries/azureml/models/Phi-4/versions/{}"
    assert "is in registry azureml" in _only(_doctor(source.format(8))["model"]).detail
    gone = _only(_doctor(source.format(99))["model"])
    assert "not in registry azureml" in gone.detail
    assert not gone.ok
    deprecation = {"finetuneRetirementDate": "2025-08-30T00:00:00.000000Z"}
    azure.catalog.models["Phi-4/7"] = {"systemMetadata": {"deprecation": deprecation}}
    azure.catalog.models["Phi-4/6"] = {"isArchived": True}
    ended = _only(_doctor(source.format(7))["model"])
    assert "registry says finetuneRetirementDate 2025-08-30" in ended.detail
    assert not ended.ok
    assert "registry says archived" in _only(_doctor(source.format(6))["model"]).detail
    azure.fail(r"/registries/", times=99, how="forbidden")
    unasked = _only(_doctor(source.format(8))["model"])
    assert "the registry could not be asked" in unasked.detail
    assert unasked.ok


@pytest.mark.parametrize("recipe", ["phi-azure", "gguf-azure"])
def test_machine_that_no_endpoint_takes(azure: FakeAzure, recipe: str) -> None:
    assert _only(_doctor(recipe=recipe)["endpoint"]).ok
    check = _only(_doctor("endpoint.sku=Standard_D4s_v5", recipe=recipe)["endpoint"])
    assert "Standard_D4s_v5 is none of the SKUs that managed endpoints take" in check.detail
    assert _only(_doctor(check.fix.removeprefix("--set "), recipe=recipe)["endpoint"]).ok
