"""The flow service of Prompt flow: the flows of a project, and their batch runs.

What is asked is held against the service's published OpenAPI (microsoft/promptflow), where a copy
of it lies beside the repository.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from tests.azure.fake import openapi
from tests.azure.fake.arm import hold_to
from tests.azure.fake.contracts import SPECS, Checked
from tests.azure.fake.file_share import FOLDER
from tests.azure.fake.flow_runs import FlowRun, Lines
from tests.azure.fake.messages import AzureError, Reply, Request
from tests.azure.fake.router import Routes
from tests.azure.fake.store import Resource
from tests.azure.fake.workspaces import WS, workspace_id

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

API = "*.api.azureml.ms"
CONTRACT = SPECS / "promptflow" / "swagger.json"
_FLOW_API = f"/flow/api{WS}"
_SHARE, _STORE = "workspaceworkingdirectory", "azureml://datastores/"

routes = Routes()


@dataclass
class FlowService:
    """The flows and runs of all projects of one fake, by id and by name.

    ``lines`` carries lines out, ``polls`` is how many looks a run takes, ``broken`` why the next
    runs end as Failed, one each.
    """

    flows: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, FlowRun] = field(default_factory=dict)
    lines: Lines = field(default_factory=Lines)
    polls: int = 2
    broken: list[str] = field(default_factory=list)


_SERVICES: WeakKeyDictionary[FakeAzure, FlowService] = WeakKeyDictionary()


def flow_service(azure: FakeAzure) -> FlowService:
    """The flow service of one fake."""
    return _SERVICES.setdefault(azure, FlowService())


def check_schema(name: str, value: Any) -> Checked | None:
    """Hold a value against a schema of the flow service's OpenAPI; None if there is no copy."""
    if not CONTRACT.is_file():
        return None
    node = openapi.Node(CONTRACT, {"$ref": f"#/components/schemas/{name}"})
    given = {key: part for key, part in value.items() if part is not None}
    if "flowType" in given:  # the client writes it small, and the service takes it
        given["flowType"] = given["flowType"].capitalize()
    return Checked(f"promptflow {name}", openapi.check_body(openapi.resolve(node), given))


def _checked(azure: FakeAzure, request: Request, schema: str) -> dict[str, Any]:
    body = request.body
    if not isinstance(body, dict):
        raise AzureError(400, "UserError", "the body is not an object")
    request.contract = hold_to(azure, check_schema(schema, body), schema)
    return body


def project_of(azure: FakeAzure, request: Request) -> Resource:
    """The project that a request of any of the services is about.

    Raises:
        AzureError: 404, there is none; 400, it is a hub, which has no flows.
    """
    at = request.path.lower().find("/subscriptions/")
    parts = request.path[at:].split("/")[:9]
    project = azure.store.need("/".join(parts))
    if project.body["kind"].lower() == "hub":
        raise AzureError(400, "UserError", f"{project.id.name} is a hub, not a project.")
    return project


def files_of(azure: FakeAzure, project: Resource, datastore: str) -> dict[str, Any]:
    """The blobs or files of one of the project's datastores, by path."""
    store = azure.store.need(f"{project.id.text}/datastores/{datastore}").properties
    place = store.get("containerName") or store["fileShareName"]
    return azure.storage.container(store["accountName"], place)


@routes.on("POST", API, f"{_FLOW_API}/Flows")
def create_flow(azure: FakeAzure, request: Request, **_: str) -> Reply:
    """Every upload is a new flow, whatever it is called."""
    body, project = _checked(azure, request, "CreateFlowRequest"), project_of(azure, request)
    file = files_of(azure, project, _SHARE).get(body["flowDefinitionFilePath"])
    if file is None or FOLDER in file.metadata:
        raise AzureError(400, "UserError", f"no file {body['flowDefinitionFilePath']} in the share")
    service = flow_service(azure)
    id_, its = str(uuid.uuid4()), workspace_id(project)
    location = project.body["location"]
    service.flows[id_] = {
        "flowId": id_,
        "flowName": body["flowName"],
        "description": body.get("description"),
        "tags": body.get("tags") or {},
        "flowType": body["flowType"].capitalize(),
        "experimentId": its,
        "createdDate": f"2026-11-22T12:{len(service.flows):02d}:00Z",
        "owner": {"userObjectId": azure.login.principal, "userTenantId": azure.login.tenant},
        "flowResourceId": f"azureml://locations/{location}/workspaces/{its}/flows/{id_}",
        "isArchived": False,
        "flowDefinitionFilePath": body["flowDefinitionFilePath"],
        "studioPortalEndpoint": f"https://ai.azure.com/projectflows/{id_}/{its}/details/Flow",
    }
    return Reply(body=service.flows[id_])


@routes.on("GET", API, f"{_FLOW_API}/Flows")
def list_flows(azure: FakeAzure, request: Request, **_: str) -> Reply:
    its = workspace_id(project_of(azure, request))
    found = [
        {key: value for key, value in flow.items() if key != "studioPortalEndpoint"}
        for flow in flow_service(azure).flows.values()
        if flow["experimentId"] == its
    ]
    return Reply(body=found)


@routes.on("GET", API, f"{_FLOW_API}/Flows/{{flow}}")
def get_flow(azure: FakeAzure, request: Request, flow: str, **_: str) -> Reply:
    if flow not in flow_service(azure).flows:
        raise AzureError(404, "FlowNotFound", f"Flow {flow} is not found.")
    return Reply(body=flow_service(azure).flows[flow])


@routes.on("GET", API, f"{_FLOW_API}/TraceSessions")
def trace_sessions(azure: FakeAzure, request: Request, **_: str) -> Reply:
    return Reply(body={"traceCosmosConfiguration": "Disabled", "traceCosmosStatus": "NotExists"})


def _text(text: str) -> Reply:
    """A string as JSON, which is how the service answers with one."""
    return Reply(body=json.dumps(text).encode(), headers={"content-type": "application/json"})


@routes.on("POST", API, f"{_FLOW_API}/BulkRuns/submit")
def submit(azure: FakeAzure, request: Request, **_: str) -> Reply:
    body, project = _checked(azure, request, "SubmitBulkRunRequest"), project_of(azure, request)
    service, name = flow_service(azure), body["runId"]
    if "aml-user-token" not in request.headers:
        raise AzureError(401, "Unauthorized", "a run needs the user's token for Azure ML")
    if name in service.runs:
        raise AzureError(409, "Conflict", f"Run {name} already exists.")
    for node, inputs in (body.get("connections") or {}).items():
        if azure.store.get(f"{project.id.text}/connections/{inputs['connection']}") is None:
            message = f"Connection {inputs['connection']} of node {node} is not found."
            raise AzureError(400, "UserError", message)
    blobs = files_of(azure, project, body["flowDefinitionDataStoreName"])
    folder = body["flowDefinitionBlobPath"].rpartition("/")[0] + "/"
    flow = {
        path.removeprefix(folder): blob.content
        for path, blob in blobs.items()
        if path.startswith(folder)
    }
    before = service.runs.get(body.get("variantRunId") or "")
    if body.get("variantRunId") and (before is None or before.status != "Completed"):
        raise AzureError(400, "UserError", f"Run {body['variantRunId']} is not completed.")
    rows = _rows(azure, project, body["batchDataInput"]["dataUri"])
    run = FlowRun(name, body, flow, rows, before, service.polls)
    run.portal = f"https://ai.azure.com/prompts/trace/run/{name}/details?wsid={project.id.text}"
    service.runs[name] = run
    return _text(name)


def _rows(azure: FakeAzure, project: Resource, uri: str) -> list[dict[str, Any]]:
    store, _, path = uri.removeprefix(_STORE).partition("/paths/")
    blob = files_of(azure, project, store).get(path)
    if blob is None:
        raise AzureError(400, "UserError", f"There is no data at {uri}.")
    return [json.loads(line) for line in blob.content.splitlines() if line]


@routes.on("POST", API, f"{_FLOW_API}/BulkRuns/resume")
def resume(azure: FakeAzure, request: Request, **_: str) -> Reply:
    """A run over the same lines, of which those that were answered are kept."""
    body, service = _checked(azure, request, "ResumeBulkRunRequest"), flow_service(azure)
    if body["runId"] in service.runs:
        raise AzureError(409, "Conflict", f"Run {body['runId']} already exists.")
    origin = service.runs[body["resumeFromRunId"]]
    run = FlowRun(
        body["runId"], origin.body, origin.flow, origin.rows, origin.before, service.polls
    )
    run.portal = origin.portal.replace(origin.name, run.name)
    run.kept = [line for line in origin.lines if line["status"] == "Completed"]
    service.runs[run.name] = run
    return _text(run.name)


def need_run(azure: FakeAzure, name: str) -> FlowRun:
    """The run.

    Raises:
        AzureError: 404.
    """
    if name not in flow_service(azure).runs:
        raise AzureError(404, "RunNotFound", f"Run {name} was not found.")
    return flow_service(azure).runs[name]


@routes.on("GET", API, f"{_FLOW_API}/BulkRuns/{{name}}")
def get_run(azure: FakeAzure, request: Request, name: str, **_: str) -> Reply:
    run = need_run(azure, name)
    links = dict.fromkeys(("studioPortalEndpoint", "studioPortalTraceEndpoint"), run.portal)
    return Reply(body={"flowRunId": name, "flowName": run.body["runExperimentName"], **links})


@routes.on("GET", API, f"{_FLOW_API}/BulkRuns/{{name}}/childRuns")
def child_runs(azure: FakeAzure, request: Request, name: str, **_: str) -> Reply:
    first, last = int(request.query["startIndex"]), int(request.query["endIndex"])
    found = [line for line in need_run(azure, name).lines if first <= line["index"] <= last]
    return Reply(body=found)


@routes.on("GET", API, f"{_FLOW_API}/BulkRuns/{{name}}/nodeRuns/{{node}}")
def node_runs(azure: FakeAzure, request: Request, name: str, node: str, **_: str) -> Reply:
    first, last = int(request.query["startIndex"]), int(request.query["endIndex"])
    output = flow_service(azure).lines.nodes.get(node)
    found = [
        {"node": node, "index": line["index"], "output": output(line["inputs"])}
        for line in need_run(azure, name).lines
        if output and line["status"] == "Completed" and first <= line["index"] <= last
    ]
    return Reply(body=found)


@routes.on("GET", API, f"{_FLOW_API}/BulkRuns/{{name}}/logContent")
def log(azure: FakeAzure, request: Request, name: str, **_: str) -> Reply:
    return _text(need_run(azure, name).log)


def run_data(azure: FakeAzure, request: Request, **_: str) -> Reply:
    """Run history: one look at a run, which goes on by that."""
    run = need_run(azure, request.body["runId"])
    service = flow_service(azure)
    run.look(service.lines, service.broken)
    return Reply(body={"runMetadata": run.history(azure.login.principal)})


@routes.on("POST", API, f"/metric/v2.0{WS}/runs/{{name}}/lastvalues")
def metrics(azure: FakeAzure, request: Request, name: str, **_: str) -> Reply:
    found = need_run(azure, name).metrics
    value = [{"name": key, "value": [{"data": {key: number}}]} for key, number in found.items()]
    return Reply(body={"value": value})
