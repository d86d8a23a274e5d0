"""Models of a workspace: versions that come from a job's output or from a path."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tests.azure.fake.assets import complete_asset, refuse_asset
from tests.azure.fake.kinds import KINDS, Kind
from tests.azure.fake.messages import AzureError
from tests.azure.fake.router import Routes
from tests.azure.fake.store import Id, Resource
from tests.azure.fake.workspaces import WORKSPACE

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

_FROM_JOB = re.compile(r"azureml://jobs/([^/]+)/outputs/([^/]+)(?:/.*)?")

routes = Routes()


def _refuse(azure: FakeAzure, id_: Id, body: dict[str, Any]) -> None:
    before = azure.store.get(id_.text)
    uri = body["properties"].get("modelUri", "")
    if before and before.hidden.get("uri") == uri:
        body["properties"]["modelUri"] = before.properties["modelUri"]
    refuse_asset(azure, id_, body)
    body["properties"]["modelUri"] = uri
    if found := _FROM_JOB.fullmatch(uri):
        job = azure.store.need(f"{_workspace(id_)}/jobs/{found[1]}")
        if job.properties["status"] != "Completed":
            raise AzureError(400, "UserError", f"The job {found[1]} is not completed.")
        outputs = job.properties.get("outputs") or {}
        if found[2] not in outputs and found[2] != "artifacts":
            message = f"The job {found[1]} has no output {found[2]}, only {sorted(outputs)}."
            raise AzureError(400, "UserError", message)


def _workspace(id_: Id) -> str:
    return id_.text.rsplit("/", 4)[0]


def _complete(azure: FakeAzure, model: Resource) -> None:
    uri = model.properties.get("modelUri", "")
    model.hidden["uri"] = uri
    if found := _FROM_JOB.fullmatch(uri):
        store = f"azureml:/{_workspace(model.id)}/datastores/workspaceblobstore"
        model.properties["modelUri"] = f"{store}/paths/azureml/{found[1]}/{found[2]}/"
        model.properties["jobName"] = found[1]
    if model.properties.get("modelType") == "mlflow_model" and not model.properties.get("flavors"):
        model.properties["flavors"] = {
            "python_function": {"data": {}},
            "transformers": {"data": {}},
        }
    model.properties.setdefault("flavors", {})
    complete_asset(azure, model)


KINDS[f"{WORKSPACE}/models/versions"] = Kind(refuse=_refuse, complete=_complete)
