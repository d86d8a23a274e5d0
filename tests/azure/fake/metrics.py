"""The metrics of jobs, by the part of MLflow's REST protocol that every workspace speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.azure.fake.messages import AzureError, Reply, Request
from tests.azure.fake.router import Routes

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

_HOST = "*.api.azureml.ms"
_RUNS = "/mlflow/v1.0/{scope...}/api/2.0/mlflow/runs"

routes = Routes()


@routes.on("POST", _HOST, f"{_RUNS}/log-batch")
def log_batch(azure: FakeAzure, request: Request, scope: str) -> Reply:
    body = request.body
    job = azure.store.need(f"/{scope}/jobs/{_parent(body['run_id'])}")
    for metric in body["metrics"]:
        if set(metric) != {"key", "value", "timestamp", "step"}:
            raise AzureError(400, "INVALID_PARAMETER_VALUE", f"{metric} is no metric.")
    job.hidden.setdefault("metrics", {}).setdefault(body["run_id"], []).extend(body["metrics"])
    return Reply(body={})


@routes.on("GET", _HOST, f"{_RUNS}/get")
def get_run(azure: FakeAzure, request: Request, scope: str) -> Reply:
    name = request.query["run_id"]
    job = azure.store.get(f"/{scope}/jobs/{_parent(name)}")
    if job is None:
        raise AzureError(404, "RESOURCE_DOES_NOT_EXIST", f"Run {name} not found")
    metrics = job.hidden.get("metrics", {}).get(name, [])
    return Reply(body={"run": {"info": {"run_id": name}, "data": {"metrics": metrics}}})


def _parent(name: str) -> str:
    return name.partition("..")[0]
