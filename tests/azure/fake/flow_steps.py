"""Flow components as steps of a pipeline: the flow that was uploaded is what runs.

A job of such steps ends when they have: each look at it finds it running until then. The identity
of its cluster needs the roles by which machines share work out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.azure.fake.assets import complete_asset, refuse_asset
from tests.azure.fake.flow_worker import FILE
from tests.azure.fake.kinds import KINDS, Kind
from tests.azure.fake.messages import AzureError
from tests.azure.fake.storage import Blob, has_role
from tests.azure.fake.store import Resource
from tests.azure.fake.workspaces import WORKSPACE
from tests.home import ROOT

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

_KIND = "promptflow_parallel"
_STORE = "azureml://datastores/workspaceblobstore/paths/"
_PORTS = ("data", "run_outputs")
_NEEDED = (
    "Storage Blob Data Contributor",
    "Storage Queue Data Contributor",
    "Storage Table Data Contributor",
)
_SECONDS = 500  # of a step in a test, on a busy machine


def _complete(azure: FakeAzure, component: Resource) -> None:
    """Make a parallel component of a flow; the service answers with that, and keeps the flow."""
    complete_asset(azure, component)
    spec = component.properties["componentSpec"]
    if spec.get("type") != _KIND:
        return
    component.hidden["flow"] = spec["flow_definition_uri"]
    folder = {"type": "uri_folder"}
    component.properties["componentSpec"] = {
        "type": "parallel",
        "name": component.id.text.split("/")[-3],
        "version": component.id.name,
        "display_name": spec.get("display_name") or spec["name"],
        "is_deterministic": "True",
        "inputs": {
            "data": folder | {"optional": "False"},
            "run_outputs": folder | {"optional": "True"},
        },
        "outputs": {"flow_outputs": folder, "debug_info": folder},
        "input_data": "${{inputs.data}}",
        "mini_batch_size": "1",
    }


KINDS[f"{WORKSPACE}/components/versions"] = Kind(refuse=refuse_asset, complete=_complete)


class Steps(Thread):
    """The steps of one job, one after the other, without the lock of the fake."""

    def __init__(self, azure: FakeAzure, job: Resource) -> None:
        super().__init__(daemon=True)
        self.room = tempfile.TemporaryDirectory(prefix="fake-steps-")
        self.folder = Path(self.room.name)
        self.problem = ""
        self.reports: dict[str, dict[str, Any]] = {}
        self.environment = os.environ | azure.env
        self.nodes = _in_order(job.properties["jobs"])
        for name, node in self.nodes:
            self._write(azure, job, name, node)

    def _write(self, azure: FakeAzure, job: Resource, name: str, node: dict[str, Any]) -> None:
        inputs = {key: _value(value, job) for key, value in node["inputs"].items()}
        flow = self.folder / name / "flow"
        _unpack(azure, azure.store.need(node["componentId"]), flow)
        rows = self.folder / name / "rows"
        rows.mkdir()
        for path, blob in _under(azure, job, inputs["data"]).items():
            (rows / path).write_bytes(blob.content)
        named = {key: text for key, text in inputs.items() if key.startswith("connections.")}
        step = {
            "flow": str(flow),
            "rows": str(rows),
            "run_outputs": _earlier(self.folder, inputs.get("run_outputs", "")),
            "mapping": {k: v for k, v in inputs.items() if k not in _PORTS and k not in named},
            "override": {key.removeprefix("connections."): text for key, text in named.items()},
            "connections": {text: _connection(azure, job, text) for text in named.values()},
            "instances": int(node["resources"]["instance_count"]),
            "batch": int(node["mini_batch_size"]),
            "retries": int((node.get("retry_settings") or {}).get("max_retries", 0)),
            "out": str(self.folder / name / "out"),
        }
        (self.folder / f"{name}.json").write_text(json.dumps(step), encoding="utf-8")

    def run(self) -> None:
        for name, _ in self.nodes:
            command = [sys.executable, "-W", "ignore", "-m", "tests.azure.fake.flow_worker"]
            done = subprocess.run(
                [*command, str(self.folder / f"{name}.json")],
                cwd=ROOT,
                env=self.environment,
                capture_output=True,
                encoding="utf-8",
                timeout=_SECONDS,
                check=False,
            )
            if done.returncode:
                self.problem = f"step {name}: {done.stderr[-2000:]}"
                return
            self.reports[name] = json.loads((self.folder / f"{name}.done").read_text())

    def keep(self, azure: FakeAzure, job: Resource) -> None:
        """Put what the steps left where the job says, and their metrics into its history."""
        for name, node in self.nodes:
            bound = _name_in(node["outputs"]["flow_outputs"]["value"], "parent.outputs.")
            container, folder = _place(azure, job, job.properties["outputs"][bound]["uri"])
            content = (self.folder / name / "out" / FILE).read_bytes()
            container[f"{folder.rstrip('/')}/{FILE}"] = Blob(content)
            metrics = self.reports[name]["metrics"].items()
            of = job.hidden.setdefault("metrics", {})
            of[f"{job.id.name}..{name}"] = [{"key": key, "value": value} for key, value in metrics]
        job.hidden["reports"] = self.reports
        self.room.cleanup()


def at_work(azure: FakeAzure, job: Resource) -> bool:
    """Carry the job's flow components out, if it has any; True when they are done."""
    nodes = (job.properties.get("jobs") or {}).values()
    if job.hidden["error"] or not any(_is_flow(azure, node) for node in nodes):
        return True
    if "steps" not in job.hidden:
        if problem := _lacking_role(azure, job):
            _fail(job, problem)
            return True
        job.hidden["steps"] = steps = Steps(azure, job)
        steps.start()
    steps = job.hidden["steps"]
    if steps.is_alive():
        return False
    if steps.problem:
        _fail(job, steps.problem)
    else:
        steps.keep(azure, job)
    return True


def _fail(job: Resource, problem: str) -> None:
    job.hidden["error"] = AzureError(400, "UserError", problem)
    job.hidden["states"][-1] = "Failed"


def _is_flow(azure: FakeAzure, node: dict[str, Any]) -> bool:
    component = azure.store.get(node.get("componentId") or "")
    return component is not None and "flow" in component.hidden


def _lacking_role(azure: FakeAzure, job: Resource) -> str:
    name = job.properties["settings"]["default_compute"].rpartition("/")[2]
    cluster = azure.store.need(f"{job.id.parent}/computes/{name}")
    (identity,) = cluster.body["identity"]["userAssignedIdentities"].values()
    storage = azure.store.need(job.id.parent).properties["storageAccount"]
    for role in _NEEDED:
        if not has_role(azure, identity["principalId"], storage, (role,)):
            return (
                "AuthorizationPermissionMismatch: This request is not authorized to perform this "
                f"operation using this permission ({role})."
            )
    return ""


def _in_order(nodes: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Those that take another one's outputs after it."""
    return sorted(nodes.items(), key=lambda item: "run_outputs" in item[1]["inputs"])


def _value(given: dict[str, Any], job: Resource) -> str:
    text = str(given.get("value", given.get("uri")))
    if name := _name_in(text, "parent.inputs."):
        return str(job.properties["inputs"][name]["uri"])
    return text


def _name_in(text: str, prefix: str) -> str:
    start = "${{" + prefix
    return text[len(start) : -2] if text.startswith(start) else ""


def _earlier(folder: Path, text: str) -> str:
    step = _name_in(text, "parent.jobs.").partition(".")[0]
    return str(folder / step / "out") if step else ""


def _place(azure: FakeAzure, job: Resource, uri: str) -> tuple[dict[str, Blob], str]:
    if not uri.startswith(_STORE):
        raise AzureError(400, "UserError", f"{uri} is not in the workspace's blob store.")
    store = azure.store.need(f"{job.id.parent}/datastores/workspaceblobstore").properties
    container = azure.storage.container(store["accountName"], store["containerName"])
    return container, uri.removeprefix(_STORE)


def _under(azure: FakeAzure, job: Resource, uri: str) -> dict[str, Blob]:
    container, path = _place(azure, job, uri)
    return {
        name.rpartition("/")[2]: blob
        for name, blob in container.items()
        if name == path or name.startswith(f"{path.rstrip('/')}/")
    }


def _unpack(azure: FakeAzure, component: Resource, folder: Path) -> None:
    """The flow's files, from where the client put them."""
    uri = urlsplit(component.hidden["flow"])
    _, container, *inner = uri.path.split("/")
    prefix = "".join(f"{part}/" for part in inner[:-1])
    blobs = azure.storage.container((uri.hostname or "").partition(".")[0], container)
    for name, blob in blobs.items():
        if name.startswith(prefix):
            path = folder / name.removeprefix(prefix)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(blob.content)


def _connection(azure: FakeAzure, job: Resource, name: str) -> dict[str, Any]:
    """A custom connection of the workspace as the executor takes it."""
    connection = azure.store.need(f"{job.id.parent}/connections/{name}")
    secrets = connection.hidden["credentials"]["keys"]
    configs = {
        key: value
        for key, value in connection.properties["metadata"].items()
        if not key.startswith("azureml.flow.")
    }
    return {
        "type": "CustomConnection",
        "module": "promptflow.connections",
        "value": configs | secrets,
        "secret_keys": list(secrets),
    }
