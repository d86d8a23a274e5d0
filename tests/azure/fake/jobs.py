"""Jobs: from submitted to completed, failed or cancelled, with logs, outputs and children."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.azure.fake import flow_service
from tests.azure.fake.kinds import KINDS, Kind
from tests.azure.fake.messages import AzureError, Reply, Request
from tests.azure.fake.operations import PACE, headers_of
from tests.azure.fake.registry import COMPONENT, component_spec
from tests.azure.fake.router import ARM, Routes
from tests.azure.fake.storage import Blob
from tests.azure.fake.store import Id, Resource
from tests.azure.fake.workspaces import WORKSPACE, WS, refuse_build

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

JOB = f"{WORKSPACE}/jobs"
ENDED = ("Completed", "Failed", "Canceled")
_DEFINING = ("jobType", "jobs", "inputs", "command", "codeId", "environmentId", "computeId")

# What else a job does before it ends: each says whether it is done.
WORK: list[Callable[[FakeAzure, Resource], bool]] = []

routes = Routes()


def _refuse(azure: FakeAzure, id_: Id, body: dict[str, Any]) -> None:
    before, wanted = azure.store.get(id_.text), body["properties"]
    if before:
        changed = [key for key in _DEFINING if before.hidden["sent"].get(key) != wanted.get(key)]
        if changed:
            message = f"Only tags, display name and the like of a job may change, not {changed}."
            raise AzureError(400, "UserError", message)
        return
    workspace = id_.parent
    for name, node in (wanted.get("jobs") or {}).items():
        _check_node(azure, workspace, name, node, wanted.get("inputs") or {})
    for compute in [wanted.get("computeId"), (wanted.get("settings") or {}).get("default_compute")]:
        if compute and compute.startswith("/"):
            azure.store.need(compute)
    for source in (wanted.get("codeId"), wanted.get("environmentId")):
        if source and source.startswith("/"):
            azure.store.need(source)
    if environment := wanted.get("environmentId"):
        refuse_build(azure, workspace, environment)


def _check_node(
    azure: FakeAzure, workspace: str, name: str, node: dict[str, Any], parent: dict[str, Any]
) -> None:
    if f"components/{COMPONENT[0]}/versions/{COMPONENT[1]}" not in node.get("componentId", ""):
        return
    declared, given = component_spec()["inputs"], node.get("inputs") or {}
    wrong = [f"{key}: not declared" for key in given if key not in declared]
    for key, entry in declared.items():
        value = _literal(given.get(key), parent)
        if key not in given and not entry.get("optional") and entry.get("default") is None:
            wrong.append(f"{key}: missing, but required")
        elif value is not None and "enum" in entry and value not in map(str, entry["enum"]):
            wrong.append(f"{key}: {value!r} is none of {entry['enum']}")
        if key.startswith("compute_") and value not in (None, "serverless"):
            azure.store.need(f"{workspace}/computes/{value}")
    models = ("mlflow_model_path", "pytorch_model_path", "huggingface_id")
    if sum(key in given for key in models) != 1:
        wrong.append(f"exactly one of {', '.join(models)} is wanted")
    if wrong:
        raise AzureError(400, "UserError", f"Step {name} is invalid: {'; '.join(wrong)}")


def _literal(given: Any, parent: dict[str, Any]) -> str | None:
    value = given.get("value") if isinstance(given, dict) else given
    if isinstance(value, str) and value.startswith("${{parent.inputs."):
        name = value.removeprefix("${{parent.inputs.").removesuffix("}}")
        return _literal(parent.get(name), {})
    literal = not isinstance(given, dict) or given.get("job_input_type", "literal") == "literal"
    return str(value) if literal and value is not None else None


def _complete(azure: FakeAzure, job: Resource) -> None:
    sent = json.loads(json.dumps(job.properties))
    job.hidden.setdefault("sent", sent)
    states = job.hidden.setdefault("states", list(azure.job_states))
    error = job.hidden.setdefault("error", azure.operations.failure_of(job.id.text))
    if error and states[-1] == "Completed":
        states[-1] = "Failed"
    base = f"https://ml.azure.com/runs/{job.id.name}?wsid={job.id.parent}"
    service = {"jobServiceType": "Studio", "endpoint": base}
    job.properties.update(status=states[0], services={"Studio": service})
    for key in ("tags", "properties"):
        job.properties[key] = job.properties.get(key) or {}


def look_at(azure: FakeAzure, job: Resource) -> None:
    """Each look finds the job one state further."""
    states = job.hidden["states"]
    if len(states) > 1:
        if states[1] == "Completed" and not all(work(azure, job) for work in WORK):
            return
        states.pop(0)
        job.properties["status"] = states[0]
        if states[0] in ENDED:
            _end(azure, job)


def _end(azure: FakeAzure, job: Resource) -> None:
    workspace = azure.store.need(job.id.parent)
    account = Id(workspace.properties["storageAccount"]).name
    log = "the job ran\n"
    if error := job.hidden["error"]:
        log = error.log or f"Traceback (most recent call last):\n{error.message}\n"
    logs = azure.storage.container(account, "azureml")
    logs[f"ExperimentRun/dcid.{job.id.name}/{_log(job)}"] = Blob(log.encode(), kind="text/plain")
    if job.properties["status"] != "Completed":
        return
    store = azure.store.need(f"{workspace.id.text}/datastores/workspaceblobstore")
    blobs = azure.storage.container(account, store.properties["containerName"])
    for name, output in (job.properties.get("outputs") or {}).items():
        output["uri"] = output.get("uri") or f"{store.id.text}/paths/azureml/{job.id.name}/{name}/"
        blobs[f"azureml/{job.id.name}/{name}/MLmodel"] = Blob(b"flavors: {}\n")


def _log(job: Resource) -> str:
    pipeline = job.properties["jobType"].lower() == "pipeline"
    return "logs/azureml/executionlogs.txt" if pipeline else "user_logs/std_log.txt"


def _job(azure: FakeAzure, scope: str, name: str) -> Resource:
    at = scope[scope.lower().index("subscriptions/") :]
    return azure.store.need(f"/{at}/jobs/{name}")


@routes.on("GET", ARM, f"{WS}/jobs/{{name}}")
def get_job(azure: FakeAzure, request: Request, **_: str) -> Reply:
    job = azure.store.need(request.path)
    look_at(azure, job)
    return Reply(body=job.body)


@routes.on("POST", ARM, f"{WS}/jobs/{{name}}/cancel")
def cancel(azure: FakeAzure, request: Request, **_: str) -> Reply:
    job = azure.store.need(request.path.rpartition("/")[0])
    if job.properties["status"] in ENDED:
        raise AzureError(400, "UserError", f"The job is {job.properties['status']} already.")
    job.hidden["states"] = ["CancelRequested", "Canceled"]
    job.properties["status"] = "CancelRequested"
    operation = azure.operations.start(job.id.text, lambda: look_at(azure, job))
    return Reply(202, headers=headers_of(operation, request.api_version, "location"))


_HISTORY = "/history/v1.0/{scope...}/runs/{name}"
_HOST = "*.api.azureml.ms"


def _error(job: Resource) -> dict[str, Any]:
    error = job.hidden["error"]
    if error is None or job.properties["status"] != "Failed":
        return {}
    return {"error": {"error": {"code": error.code, "message": error.message}}}


@routes.on("GET", _HOST, f"{_HISTORY}/details")
def get_details(azure: FakeAzure, request: Request, scope: str, name: str) -> Reply:
    job = _job(azure, scope, _parent(name))
    look_at(azure, job)
    workspace = azure.store.need(job.id.parent)
    host = f"{Id(workspace.properties['storageAccount']).name}.blob.core.windows.net"
    path = f"azureml/ExperimentRun/dcid.{job.id.name}/{_log(job)}"
    ended = job.properties["status"] in ENDED
    # A signature by a key of the signed-in user's, good where account keys are off.
    logs = {_log(job): f"https://{host}/{path}?sv=2024-11-04&skoid=1&sig=c2ln"} if ended else {}
    body = {"runId": name, "status": job.properties["status"], "logFiles": logs, "properties": {}}
    return Reply(body=body | _error(job), headers=dict(PACE))


@routes.on("GET", _HOST, f"{_HISTORY}/children")
def list_children(azure: FakeAzure, request: Request, scope: str, name: str) -> Reply:
    job = _job(azure, scope, name)
    nodes = job.properties.get("jobs") or {}
    return Reply(body={"value": [_run(job, f"{name}..{node}") for node in nodes]})


def _parent(name: str) -> str:
    return name.partition("..")[0]


def _run(job: Resource, name: str) -> dict[str, Any]:
    child = name != job.id.name
    run = {
        "runId": name,
        "displayName": name.rpartition("..")[2],
        "status": job.properties["status"],
        "runType": "azureml.StepRun" if child else "azureml.PipelineRun",
        "runTypeV2": {"primaryType": "Command" if child else "Pipeline", "traits": []},
        "parentRunId": job.id.name if child else None,
        "properties": {},
        "tags": {},
    }
    return run | _error(job)


@routes.on("POST", _HOST, "/history/v1.0/{scope...}/rundata")
def get_run_data(azure: FakeAzure, request: Request, scope: str) -> Reply:
    """A job's run, or else a batch run of a flow, which the same route serves."""
    name = request.body["runId"]
    at = scope[scope.lower().index("subscriptions/") :]
    if azure.store.get(f"/{at}/jobs/{_parent(name)}") is None:
        sub, group, ws = at.split("/")[1], at.split("/")[3], at.split("/")[-1]
        return flow_service.run_data(azure, request, sub=sub, group=group, ws=ws)
    return Reply(body={"runMetadata": _run(_job(azure, scope, _parent(name)), name)})


KINDS[JOB] = Kind(stateful=False, refuse=_refuse, complete=_complete)
