"""Who may do what after the infrastructure template: no more than named, and named for good."""

from __future__ import annotations

import json
import re
import uuid

import pytest

from setup.azure.provision.infra import template
from tests.azure.fake import FakeAzure
from tests.azure.fake.arm import write_resource
from tests.azure.fake.store import Id
from tests.azure.fake.supporting import ASSIGNMENT, ROLES
from tests.azure.infrastructure import (
    GROUP,
    ME,
    SPACE,
    assignments_in,
    deploy,
    identity_of,
    resources_in,
    roles_of,
)

IDENTITY_ROLES = {"Storage Blob Data Reader", "Storage Blob Data Contributor", "AcrPull"}
MY_ROLES = {"Storage Blob Data Contributor", "Storage File Data Privileged Contributor"}


@pytest.fixture
def group(azure: FakeAzure) -> FakeAzure:
    """A subscription with an empty resource group."""
    write_resource(azure, Id(GROUP), {"location": "swedencentral"})
    return azure


def test_narrow_roles(group: FakeAzure) -> None:
    deploy(group)
    metrics = "AzureML Metrics Writer (preview)"
    found = roles_of(group, identity_of(group))
    assert set(found) == {*IDENTITY_ROLES, metrics}
    assert found[metrics].lower() == SPACE
    assert found["AcrPull"].lower() == "microsoft.containerregistry/registries"
    assert set(roles_of(group, ME)) == MY_ROLES


def test_contributor_is_asked_for_by_name(group: FakeAzure) -> None:
    deploy(group, identityRole="contributor", principalId="")
    found = roles_of(group, identity_of(group))
    assert set(found) == {*IDENTITY_ROLES, "Contributor"}
    assert found["Contributor"].lower() == "microsoft.resources/resourcegroups"
    assert roles_of(group, ME) == {}


def test_with_account_keys_the_identity_only_reads(group: FakeAzure) -> None:
    deploy(group, extra={"allowSharedKeyAccess": {"value": True}})
    assert "Storage Blob Data Contributor" not in roles_of(group, identity_of(group))


def test_an_assignment_is_named_after_scope_principal_and_role(group: FakeAzure) -> None:
    done = deploy(group)
    first = {one.id.name for one in done.resources if one.kind == ASSIGNMENT}
    assert len(first) == 6
    assert all(uuid.UUID(name) for name in first)
    for one in assignments_in(template()):
        parts = re.fullmatch(r"\[guid\((.+), (\w+\('\w+'\)), (\w+\('\w+'\))\)\]", one["name"])
        assert parts is not None
        scope, principal, role = parts.groups()
        assert one["properties"]["principalId"] == f"[{principal}]"
        assert role in one["properties"]["roleDefinitionId"]
        named = re.search(r"parameters\('\w+'\)", one.get("scope", "resourceGroup()"))
        assert (named[0] if named else "resourceGroup().id") in scope


def test_an_identity_made_anew_gets_assignments_of_its_own(group: FakeAzure) -> None:
    deploy(group, identityRole="contributor")
    group.subscription.principal = lambda owner: str(uuid.uuid5(uuid.NAMESPACE_DNS, owner))  # type: ignore[method-assign]
    deploy(group, identityRole="contributor")
    assert set(roles_of(group, identity_of(group))) == {*IDENTITY_ROLES, "Contributor"}


def test_assignments_say_what_their_principal_is(group: FakeAzure) -> None:
    """Without it Azure looks for the principal, which it may not know yet."""
    kinds = [one["properties"]["principalType"] for one in assignments_in(template())]
    assert set(kinds) == {"ServicePrincipal", "[parameters('principalType')]"}


def test_no_assignment_is_broader_than_named() -> None:
    variables = [one for one in resources_in(template()) if "template" in one.get("properties", {})]
    ids = variables[0]["properties"]["template"]["variables"].values()
    known = {ROLES[name] for name in (*IDENTITY_ROLES, *MY_ROLES, "Contributor")}
    of_some = {ROLES["AzureML Metrics Writer (preview)"], ROLES["AcrPush"]}
    assert set(ids) == known | of_some
    assert ROLES["Owner"] not in json.dumps(template())
    for one in assignments_in(template()):
        if "scope" not in one:  # the whole group
            assert one["condition"] == "[equals(parameters('identityRole'), 'contributor')]"
