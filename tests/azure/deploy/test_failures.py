"""All that can fail while deploying in Azure: one line, the next command, traffic as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from setup.azure.client import waiting
from setup.azure.client.explain import likely_cause
from setup.azure.client.session import AzureSession
from setup.azure.deploy import step as deploy
from setup.common import console
from setup.recipe.azure import AzureRecipe
from tests.azure.fake import FakeAzure
from tests.azure.fake.ready import add_compute
from tests.azure.fake.supporting import ASSIGNMENT
from tests.azure.serving import (
    deployments_of,
    endpoint_of,
    endpoint_with,
    fails,
    register,
    traffic_of,
    workspace_id,
    writes,
)

FAMILY = "standardNCADSA100v4Family"


def test_version_that_does_not_answer_gets_no_traffic(
    azure: FakeAzure, recipe: AzureRecipe, home: Path
) -> None:
    deploy.run(AzureSession(recipe))
    register(azure, recipe, "2")
    azure.answer = lambda name, _: "!!!!!!!!" if name == "tuned-green" else "Paris."
    error = fails(recipe)
    assert "answers '!!!!!!!!'" in error.what
    assert "the traffic is as it was" in error.what
    for command in ("logs --recipe phi-azure --deployment", "delete --recipe phi-azure"):
        assert f"python -m setup {command} tuned-green" in error.fix
    assert list(home.rglob("tuned-green.log"))
    azure.answer = lambda name, _: {} if name == "tuned-green" else "Paris."
    assert "does not answer (the endpoint answered {}" in fails(recipe).what
    assert traffic_of(azure) == {"tuned-blue": 100}
    assert deployments_of(azure)["tuned-green"].properties["provisioningState"] == "Succeeded"
    azure.answer = lambda *_: "Paris."
    deploy.run(AzureSession(recipe))
    assert traffic_of(azure) == {"tuned-green": 100}


def test_failed_deployment_shows_its_log(
    azure: FakeAzure, recipe: AzureRecipe, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = "".join(f"loading shard {n}\n" for n in range(20))
    log += "Authorization: Bearer kkkkkkkkkkkkkkkk\ntorch.OutOfMemoryError: CUDA out of memory.\n"
    azure.fail_resource(
        "/tuned-blue$", "User container has crashed", code="ResourceNotReady", log=log
    )
    error = fails(recipe)
    assert "failed: the model does not fit the GPU's memory" in error.what
    assert "ResourceNotReady" in error.what
    assert "endpoint.sku" in error.fix
    (path,) = home.rglob("tuned-blue.log")
    assert str(path) in error.what
    assert "CUDA out of memory" in path.read_text()
    assert "kkkkkkkk" not in path.read_text()
    assert traffic_of(azure) == {}
    assert azure.subscription.in_use(FAMILY) == 24
    azure.clear()
    deploy.run(AzureSession(recipe))
    assert "DELETE tuned-blue" in writes(azure)
    assert traffic_of(azure) == {"tuned-blue": 100}
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("RuntimeError: FlashAttention only supports Ampere GPUs or newer.", "flash attention"),
        ("ValueError: bfloat16 is only supported on GPUs with compute capability 8.0", "bf16"),
        ("Readiness probe failed: HTTP probe failed with statuscode: 502", "probes gave up"),
        ("Container was OOMKilled", "machine's memory"),
        ("m.gguf did not load: RuntimeError: Failed to init server", "model file"),
        ("has no .../containers/blobs/read on the storage", "may not read"),
        ("ModuleNotFoundError: No module named 'azureml_evaluate'", "lacks a package"),
        ("all is well", ""),
    ],
)
def test_likely_cause(said: str, cause: str) -> None:
    found = likely_cause("deployment", ["Starting gunicorn", said])
    assert bool(found) == bool(cause)
    assert cause in (found.cause if found else "")


def test_quota_refused_names_what_is_enough(azure: FakeAzure, recipe: AzureRecipe) -> None:
    azure.subscription.limits[FAMILY] = 24
    deploy.run(AzureSession(recipe))
    register(azure, recipe, "2")
    error = fails(recipe)
    assert "quota" in error.what
    assert "reserve" in error.what
    assert "python -m setup quota --request 48 --recipe phi-azure" in error.fix
    assert traffic_of(azure) == {"tuned-blue": 100}


def test_quota_is_named_even_if_the_cluster_cannot_be_read(
    azure: FakeAzure, recipe: AzureRecipe
) -> None:
    azure.subscription.limits[FAMILY] = 0
    azure.fail("GET .*/vmSizes", times=99, how="forbidden")
    error = fails(recipe)
    assert "refused for want of quota (Not enough quota available" in error.what
    assert "python -m setup quota --recipe phi-azure" in error.fix


@pytest.mark.parametrize("refused", [True, False])
def test_cores_of_an_idle_cluster_are_waited_for(
    azure: FakeAzure, recipe: AzureRecipe, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    """After a job its machine stays for a while, and holds the only cores that there are.

    Azure says so at once, or lets the deployment fail.
    """
    azure.subscription.limits[FAMILY] = 24
    azure.subscription.used["cluster"] = (FAMILY, 24)
    at = add_compute(
        azure, workspace_id(azure, recipe), recipe.finetune.compute.name, recipe.endpoint.sku
    )
    nodes = azure.store.need(at).properties["properties"]["nodeStateCounts"]
    nodes["runningNodeCount"] = 1
    assert "24 of 24 are in use" in fails(recipe).what  # a job is at work: no wait
    nodes |= {"runningNodeCount": 0, "idleNodeCount": 1}

    if not refused:
        azure.subscription.limits[FAMILY] = 48
        azure.fail_resource("/tuned-blue$", "Not enough quota for this SKU.", code="OutOfQuota")

    def go(line: str, **_: object) -> None:
        if line.startswith("Waiting until 1 idle machines of cluster"):
            azure.subscription.used.pop("cluster")
            nodes["idleNodeCount"] = 0

    monkeypatch.setattr(console.err, "print", go)
    azure.clear()
    assert deploy.run(AzureSession(recipe)).changed
    assert ("DELETE tuned-blue" in writes(azure)) is not refused
    assert traffic_of(azure) == {"tuned-blue": 100}


def test_other_operation_is_waited_for(
    azure: FakeAzure, recipe: AzureRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = azure.fail("PUT .*/tuned-blue$", times=2, how="conflict")
    also = azure.fail("PUT .*/onlineEndpoints/[^/]*$", times=1, how="conflict")
    assert deploy.run(AzureSession(recipe)).changed
    assert (busy.met, also.met) == (2, 1)
    register(azure, recipe, "2")
    monkeypatch.setattr(waiting, "BUSY_FOR", 0.05)
    azure.fail("PUT .*/tuned-green$", times=99, how="conflict")
    assert "another operation has been running" in fails(recipe).what


def test_lost_connection_then_the_same_again(azure: FakeAzure, recipe: AzureRecipe) -> None:
    azure.operations.polls = 6
    lost = azure.fail("PUT .*/tuned-blue$", how="lost")  # carried out, and sent again by azure-core
    cut = azure.fail("GET .*/deployments$", times=0, how="dropped")
    assert deploy.run(AzureSession(recipe)).changed
    assert lost.met == 1
    register(azure, recipe, "2")
    azure.fail("GET .*/operations/", times=5, how="dropped")
    error = fails(recipe)
    assert "the connection to Azure failed" in error.what
    assert cut.met == 0
    azure.clear()
    assert deploy.run(AzureSession(recipe)).changed  # follows what is under way
    assert writes(azure) == [f"PUT {endpoint_of(azure).id.name}"]
    assert traffic_of(azure) == {"tuned-green": 100}


def test_throttled_or_signed_out(azure: FakeAzure, recipe: AzureRecipe) -> None:
    azure.fail("PUT .*/onlineEndpoints/", how="throttled")
    azure.fail("PUT .*/tuned-blue$", how="token")
    error = fails(recipe)
    assert "401 ExpiredAuthenticationToken" in error.what
    assert "az login" in error.fix
    assert deploy.run(AzureSession(recipe)).changed
    assert traffic_of(azure) == {"tuned-blue": 100}


def test_what_cannot_be_served_is_refused(azure: FakeAzure, recipe: AzureRecipe) -> None:
    other = recipe.model_copy(
        update={"registry": recipe.registry.model_copy(update={"model": "x"})}
    )
    assert fails(other).fix.startswith("python -m setup register --recipe phi-azure")
    assert "make deployment tuned-blue of the version of x to come" in "\n".join(
        deploy.plan(AzureSession(other))
    )
    wrong = fails(endpoint_with(recipe, kind="gguf"))
    assert "type mlflow_model, and endpoint.kind gguf serves custom_model" in wrong.what
    assert azure.writes == []


def test_role_that_is_not_seen_yet(azure: FakeAzure, recipe: AzureRecipe) -> None:
    (role,) = [
        one
        for one in azure.store
        if one.kind == ASSIGNMENT and one.properties["principalId"] != azure.login.principal
    ]
    azure.store.delete(role.id.text)
    error = fails(recipe)
    assert "may not read the model" in error.what
    assert "ten minutes" in error.fix
    azure.store.put(role.id, role.body)
    assert deploy.run(AzureSession(recipe)).changed
    assert traffic_of(azure) == {"tuned-blue": 100}
