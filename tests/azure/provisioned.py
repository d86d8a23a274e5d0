"""What the tests of provision and teardown share: the recipe, patience, processes to kill."""

from __future__ import annotations

import copy
import subprocess
import sys
import time

import pytest

from setup.azure.client.money import answered
from setup.azure.client.names import derive_names
from setup.azure.client.session import AzureSession
from setup.azure.provision import step as provision
from setup.common.errors import FixableError
from setup.common.step import Result
from setup.recipe.azure import AzureRecipe
from setup.recipe.load import load_azure_recipe
from tests.azure.fake import FakeAzure
from tests.azure.fake.storage import Storage
from tests.azure.fake.store import Store
from tests.azure.fake.subscription import SUBSCRIPTION
from tests.azure.fake.supporting import ASSIGNMENT
from tests.home import ROOT

GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/finetune-phi"
SPACES = f"{GROUP}/providers/Microsoft.MachineLearningServices/workspaces"
CLUSTER = f"{SPACES}/phi-workspace/computes/gpu-cluster"
DEPLOYMENT = r"PUT .*/deployments/finetune-phi-phi-azure$"


_BUILT: list[tuple[Store, Storage]] = []


def recipe(*sets: str) -> AzureRecipe:
    """The default recipe for Azure, with values of a test's own."""
    return load_azure_recipe("phi-azure", list(sets))


NAMES = derive_names(recipe(), SUBSCRIPTION)
STORAGE = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/{NAMES.storage}"
VAULT = f"{GROUP}/providers/Microsoft.KeyVault/vaults/{NAMES.key_vault}"


def provide(*sets: str) -> Result:
    """Provision, agreeing to what it costs."""
    with answered(True):
        return provision.run(AzureSession(recipe(*sets)))


def build(azure: FakeAzure) -> None:
    """Provision, or put there what provisioning left the first time."""
    if not _BUILT:
        provide()
        _BUILT.append(copy.deepcopy((azure.store, azure.storage)))
    azure.store, azure.storage = copy.deepcopy(_BUILT[0])
    azure.clear()


def refused(*sets: str) -> str:
    """The one line that provisioning ends in."""
    with pytest.raises(FixableError) as caught:
        provide(*sets)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assignments(azure: FakeAzure) -> set[tuple[str, str, str]]:
    """Scope, principal and role of every assignment, in lower case."""
    found = (one for one in azure.store if one.kind == ASSIGNMENT)
    return {
        (
            one.id.scope.lower(),
            one.properties["principalId"],
            one.properties["roleDefinitionId"].rpartition("/")[2],
        )
        for one in found
    }


def kill_when(azure: FakeAzure, pattern: str, *arguments: str) -> None:
    """Start ``python -m setup``, and kill it once it has sent a request that the pattern finds."""
    process = subprocess.Popen(
        [sys.executable, "-m", "setup", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not azure.find(pattern):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait(10)
