"""The fixture ``azure``: a fake Azure that the real, unmodified SDKs talk to.

    def test_group_is_made(azure: FakeAzure) -> None:
        Arm(DefaultAzureCredential()).put(GROUP, {"location": "eastus2"})  # in this process
        assert [str(r) for r in azure.writes] == [f"PUT management.azure.com{GROUP} -> 201"]

    subprocess.run([...], env=os.environ | azure.env)     # or in another; state lives in the test

What else there is (tests/azure/fake/azure.py):

    azure.requests, azure.find(r"PUT .*/workspaces/"), azure.writes, azure.hosts, azure.clear()
    azure.store.get(ID), azure.store.need(ID).properties      # resources, ids without case
    azure.fail(r"PUT .*/computes/", times=2, how="throttled") # conflict forbidden unavailable quota
                                                              # token; dropped: cut before it is
                                                              # carried out, lost: after it was
    azure.fail_resource(r"/computes/gpu", "no capacity", code="AllocationFailed")  # LRO ends Failed
    azure.fail_resource(r"/jobs/|/deployments/blue$", "out of memory", log="CUDA…\n")  # with a log
    azure.login.expire()                                      # every token so far is worthless
    azure.subscription.limits[FAMILY] = 0                     # quota in cores; .providers, .actions
    azure.job_states = ["Queued", "Running", "Completed"]     # one further at each look
    azure.answer = lambda deployment, messages: "Paris"       # what the scoring host says
    azure.serves = "pipeline"                                 # mlflow, openai: its contract
    azure.catalog.models["Phi-4/8"] = {"isArchived": True}    # models of the registry azureml
    add_workspace(azure, "ws", "rg"); add_compute(…); add_role(…)  # fake/ready.py: there already
    azure.operations.polls = 50                               # long-running operations take longer
    azure.strict = False                                      # contract violations only recorded
    azure.violations, azure.unchecked                         # what was wrong, what has no contract

Data needs roles as in Azure: the signed-in principal (azure.login.principal) reads and writes blobs
only with Storage Blob Data Contributor on the account (``add_workspace`` assigns it).

After each test the fixture fails it when the fake itself crashed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.azure.fake import FakeAzure
from tests.azure.fake.contracts import NO_SPECS, Contracts
from tests.azure.patience import hurry


@pytest.fixture
def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAzure]:
    """An empty subscription; this process's environment points to it while the test runs."""
    hurry(monkeypatch)
    folder = tmp_path / "azure"
    folder.mkdir()
    fake = FakeAzure(folder)
    for name, value in fake.env.items():
        monkeypatch.setenv(name, value)
    yield fake
    fake.close()
    assert fake.crashes == []


@pytest.fixture
def contracts() -> Contracts:
    """Azure's published contracts; the test is skipped where there is no copy of them."""
    found = Contracts()
    if not found.available:
        pytest.skip(NO_SPECS)
    return found
