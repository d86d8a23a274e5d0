"""The whole path in Azure as a user runs it: from nothing to an uploaded flow and an answer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

import pytest

from setup.azure.path import STEPS
from tests.azure.commands import run_setup
from tests.azure.fake import FakeAzure
from tests.azure.fake.flow_service import flow_service
from tests.azure.fake.messages import Request
from tests.azure.provisioned import NAMES
from tests.home import ROOT

RECIPE = ("--recipe", "phi-azure")
QUESTION = "How much does the Finch air purifier cost?"
ANSWER = "The Finch air purifier costs 190 euros."
# promptflow asks the package index for a newer promptflow, in a thread that may not get that far.
VERSION_CHECK = {"pypi.org"}
HOSTS = {
    "login.microsoftonline.com",  # tokens
    "management.azure.com",
    "eastus2.api.azureml.ms",  # of the workspace: job history, uploaded flows
    "eastus.api.azureml.ms",  # of the model catalog's registry
    "cert-eastus.experiments.azureml.net",  # where that registry says it is
    f"{NAMES.storage}.blob.core.windows.net",
    f"{NAMES.storage}.file.core.windows.net",
    f"{NAMES.endpoint}.eastus2.inference.ml.azure.com",
}


@dataclass(frozen=True)
class Whole:
    """What ``up`` has left, uninterrupted, and what it has sent for that."""

    azure: FakeAzure
    done: subprocess.CompletedProcess[str]
    requests: list[Request]
    hosts: set[str]
    violations: list[str]
    state: list[str]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    """A subscription after ``up --yes`` from nothing; tests leave it as it is."""
    azure = FakeAzure(tmp_path_factory.mktemp("azure"))
    _answer_quickly(azure)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in azure.env.items():
            patch.setenv(name, value)
        _use_home(patch, tmp_path_factory.mktemp("home"))
        done = run_setup("up", *RECIPE, "--yes")
        found = azure.violations.copy()
        yield Whole(azure, done, azure.requests.copy(), azure.hosts, found, _state(azure))
    azure.close()
    assert azure.crashes == []


@pytest.fixture
def empty(azure: FakeAzure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeAzure:
    """A subscription with nothing in it, and a home of the test's own."""
    _answer_quickly(azure)
    _use_home(monkeypatch, tmp_path / "home")
    return azure


def _use_home(patch: pytest.MonkeyPatch, home: Path) -> None:
    """Nothing of this user's is read or written."""
    for name in ("FINETUNE_PHI_HOME", "PF_HOME_DIRECTORY", "AZURE_CONFIG_DIR"):
        patch.setenv(name, str(home / name.lower()))
    patch.setenv("PYTHON_KEYRING_BACKEND", "keyrings.alt.file.PlaintextKeyring")
    patch.setenv("KEYRING_PROPERTY_FILE_PATH", str(home / "keyring.cfg"))


def _answer_quickly(azure: FakeAzure) -> None:
    """Between two looks at a job are 15 seconds: here it is over at the first."""
    azure.job_states = ["Running", "Completed"]
    azure.answer = lambda _deployment, _messages: ANSWER


def _state(azure: FakeAzure) -> list[str]:
    """Every resource and every uploaded flow, twice where there are two."""
    flows = (flow["flowName"] for flow in flow_service(azure).flows.values())
    return sorted([*(one.id.key for one in azure.store), *flows])


def test_dry_run_only_reads_and_prices_everything(empty: FakeAzure, whole: Whole) -> None:
    planned = run_setup("up", *RECIPE, "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert [str(request) for request in empty.writes] == []
    assert list(empty.store) == []
    lines = planned.stdout.splitlines()
    made = [one.id for one in whole.azure.store if _is_of_template(one.id.key)]
    assert len(made) == 10
    for id_ in made:
        named = [line for line in lines if id_.name in line]
        assert any("an hour" in line or ": nothing" in line for line in named), id_.text
    of_endpoint = f"of endpoint {NAMES.endpoint}: Standard_NC24ads_A100_v4, $$$ an hour until"
    assert any(of_endpoint in line for line in lines)
    assert any("gpu-cluster: Standard_NC24ads_A100_v4, $$$ an hour while" in line for line in lines)
    assert any(line.startswith("dollars an hour: $ under 0.1, ") for line in lines)


def _is_of_template(id_: str) -> bool:
    """Whether the resource stands in the group itself, or is a cluster."""
    kind = id_.partition("/resourcegroups/finetune-phi/providers/")[2].split("/")
    in_group = len(kind) == 3 and kind[0] not in ("microsoft.resources", "microsoft.authorization")
    return in_group or "/computes/" in id_


def test_from_nothing_to_uploaded_flows(whole: Whole) -> None:
    assert whole.done.returncode == 0, whole.done.stderr
    steps = [line.partition(":")[0] for line in whole.done.stdout.splitlines()]
    assert steps == [step.name for step in STEPS]
    assert "(unchanged)" not in whole.done.stdout
    assert "Traceback" not in whole.done.stderr
    names = {flow.parent.name for flow in (ROOT / "flows").glob("*/flow.dag.yaml")}
    uploaded = [flow["flowName"] for flow in flow_service(whole.azure).flows.values()]
    assert {name.rpartition("-")[0] for name in uploaded} == names
    assert len(uploaded) == len(names)
    assert whole.hosts - VERSION_CHECK == HOSTS
    assert whole.azure.unknown_routes == []


@pytest.mark.usefixtures("contracts")
def test_every_body_keeps_its_contract(whole: Whole) -> None:
    assert whole.azure.strict
    assert whole.violations == []
    assert whole.azure.unchecked == set()
    bodies = [one for one in whole.requests if one.method in ("PUT", "PATCH") and one.raw]
    managed = [one for one in bodies if one.host == "management.azure.com"]
    assert [str(one) for one in managed if not one.contract] == []
    assert managed


def test_chat_through_the_endpoint(whole: Whole) -> None:
    """The connection that ``connect`` made on this machine leads to the endpoint in Azure."""
    whole.azure.clear()
    command = [str(Path(sys.executable).with_name("pf")), "flow", "test", "--flow", "flows/chat"]
    asked = subprocess.run(
        [*command, "--inputs", f"question={QUESTION}"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    assert f'"answer": "{ANSWER}"' in asked.stdout
    (sent,) = whole.azure.find(rf"POST {NAMES.endpoint}\..*/score$")
    given = sent.body["input_data"]
    assert given["input_string"][-1] == {"role": "user", "content": QUESTION}
    assert "max_new_tokens" in given["parameters"]
    assert "azureml-model-deployment" not in sent.headers  # it follows the traffic


def test_same_command_again_changes_nothing(whole: Whole) -> None:
    whole.azure.clear()
    again = run_setup("up", *RECIPE)  # without --yes: nothing costs, so nothing is asked
    assert again.returncode == 0, again.stderr
    assert [str(request) for request in whole.azure.writes] == []
    assert all(line.endswith(" (unchanged)") for line in again.stdout.splitlines())
    assert len(again.stdout.splitlines()) == len(STEPS)
    assert _state(whole.azure) == whole.state


def test_run_asks_and_scores_in_the_project(whole: Whole) -> None:
    done = run_setup("run", *RECIPE, "--limit", "2", "--max-error-rate", "0", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    run = said["run"]
    assert (said["ok"], run["n"], run["ok"], run["error"]) == (True, 2, 2, 0)
    assert "fact_recall" in run["metrics"]
    assert {run["chat"], run["evaluation"]} == set(flow_service(whole.azure).runs)


@pytest.mark.slow
@pytest.mark.minutes
def test_killed_after_each_step_then_torn_down(empty: FakeAzure, whole: Whole) -> None:
    """One path, cut off after each of its steps in turn, ends as one that was not."""
    for step in STEPS[:-1]:
        _kill_after(step.name)
        assert _state(empty) != whole.state
    done = run_setup("up", *RECIPE, "--yes")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.endswith(" (unchanged)") for line in lines] == [True] * (len(STEPS) - 1) + [False]
    assert _state(empty) == whole.state

    gone = run_setup("teardown", *RECIPE, "--yes")
    assert gone.returncode == 0, gone.stderr
    assert "group finetune-phi is empty: nothing billable is left" in gone.stdout
    assert list(empty.store) == []
    assert empty.subscription.used == {}


def _kill_after(step: str) -> None:
    """Start the whole path, and kill it the moment it says that ``step`` is done."""
    process = subprocess.Popen(
        [sys.executable, "-m", "setup", "up", *RECIPE, "--yes"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    watch = Timer(120, process.kill)
    watch.start()
    assert process.stdout
    printed = []
    with process.stdout as lines:
        for line in lines:
            printed.append(line)
            if line.startswith(f"{step}: "):
                process.kill()
                break
    assert process.wait(10) != 0
    watch.cancel()
    assert printed[-1].startswith(f"{step}: "), "".join(printed)


@pytest.mark.parametrize(
    ("retired", "fix"),
    [
        (
            "model.source=azureml://registries/azureml/models/Phi-3-mini-4k-instruct/versions/15",
            "--set model.source=azureml://registries/azureml/models/Phi-4/versions/8",
        ),
        ("endpoint.sku=Standard_NC6s_v3", "--set endpoint.sku=Standard_NC24ads_A100_v4"),
    ],
)
def test_what_is_retired_is_refused_with_its_replacement(
    empty: FakeAzure, retired: str, fix: str
) -> None:
    refused = run_setup("up", *RECIPE, "--set", retired, "--yes")
    assert refused.returncode == 1
    assert empty.requests == []
    (line,) = refused.stderr.splitlines()
    assert " was retired on 2025-" in line
    assert ", replaced by " in line
    assert fix in line
