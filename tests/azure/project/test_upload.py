"""The step upload, driven by the real promptflow.azure against the fake flow service and share."""

from __future__ import annotations

from pathlib import Path

import pytest

from setup.azure.client.session import AzureSession
from setup.azure.project import upload
from setup.common import flow_folder
from setup.common.errors import FixableError
from setup.recipe.azure import AzureRecipe
from setup.recipe.load import load_azure_recipe
from tests.azure.fake import FakeAzure
from tests.azure.fake.contracts import Contracts
from tests.azure.fake.flow_service import check_schema, flow_service
from tests.azure.made_project import FLOWS, KEY, copy_flows, make_project, share_files


@pytest.fixture
def flows(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two of the repository's flows, as they look after somebody has used them."""
    folder = copy_flows(tmp_path / "flows", whole=getattr(request, "param", False))
    used = {
        ".promptflow/flow.log": "You asked for my password",
        ".env": f"KEY={KEY}",
        "__pycache__/chat.cpython-311.pyc": "",
        "endpoint/__pycache__/x.pyc": "",
        "process_log/1.log": "You asked",
    }
    for path, content in used.items():
        file = folder / "chat" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    monkeypatch.setattr(flow_folder, "FLOWS", folder)
    monkeypatch.setenv("FINETUNE_PHI_HOME", str(tmp_path / "home"))
    return folder


@pytest.fixture
def recipe(azure: FakeAzure, flows: Path) -> AzureRecipe:
    """The recipe of a project that is there."""
    return make_project(azure)


def test_plan_from_nothing_only_reads(azure: FakeAzure, flows: Path) -> None:
    lines = upload.plan(AzureSession(load_azure_recipe("phi-azure", [])))
    assert [line.split(" to project ")[1] for line in lines] == ["phi-project"] * 2
    assert lines[0].startswith("chat flow chat-")
    assert lines[1].startswith("evaluation flow evaluate_answers-")
    assert azure.writes == []


def test_without_a_project_the_step_before_is_named(azure: FakeAzure, flows: Path) -> None:
    with pytest.raises(FixableError, match="python -m setup provision"):
        upload.run(AzureSession(load_azure_recipe("phi-azure", [])))


@pytest.mark.parametrize("flows", [True], indirect=True)
def test_flows_are_uploaded_clean_and_once(
    azure: FakeAzure, recipe: AzureRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    done = upload.run(AzureSession(recipe))
    assert done.changed
    assert "https://ai.azure.com/projectflows/" in done.detail
    assert "older uploads" not in done.detail
    made = list(flow_service(azure).flows.values())
    assert [(flow["flowType"], flow["flowName"].rpartition("-")[0]) for flow in made] == [
        ("Chat", "chat"),
        ("Evaluation", "evaluate_answers"),
    ]
    files = share_files(azure)
    folder = made[0]["flowDefinitionFilePath"].rpartition("/")[0]
    mine = {path.removeprefix(f"{folder}/") for path in files if path.startswith(f"{folder}/")}
    assert {"flow.dag.yaml", "chat.py", "requirements.txt", "scoring_client/client.py"} <= mine
    assert not [path for path in files if "__pycache__" in path or "log" in path.split("/")[-1]]
    everything = b"".join(files.values())
    assert KEY.encode() not in everything
    assert b"You asked" not in everything
    assert files[f"{folder}/chat.py"] == (flow_folder.FLOWS / "chat" / "chat.py").read_bytes()
    for flow in made:
        checked = check_schema("FlowDto", flow)  # the fake answers as the contract says, too
        assert checked is None or checked.errors == []
    assert azure.violations == []
    assert azure.unknown_routes == []
    assert capsys.readouterr().out == ""

    azure.clear()
    again = upload.run(AzureSession(recipe))
    assert not again.changed
    assert azure.writes == []
    assert all(line.endswith("(unchanged)") for line in upload.plan(AzureSession(recipe)))
    assert azure.writes == []


def test_a_changed_flow_is_a_new_one_and_the_old_one_is_named(
    azure: FakeAzure, recipe: AzureRecipe
) -> None:
    upload.run(AzureSession(recipe))
    old, uploaded = next(iter(flow_service(azure).flows.items()))
    (flow_folder.FLOWS / "chat" / "chat.py").open("a").write("# changed\n")
    plan = upload.plan(AzureSession(recipe))
    assert [line.endswith("(unchanged)") for line in plan] == [False, True]
    done = upload.run(AzureSession(recipe))
    assert done.changed
    assert f"{uploaded['flowName']} ({old})" in done.detail
    assert "delete them in the portal" in done.detail
    assert len(flow_service(azure).flows) == 3


def test_another_connection_is_named_in_the_flow(azure: FakeAzure, flows: Path) -> None:
    upload.run(AzureSession(make_project(azure, "connection=mine")))
    dags = [text for path, text in share_files(azure).items() if path.endswith("flow.dag.yaml")]
    assert any(b"connection: mine" in text for text in dags)
    assert not any(b"connection: phi" in text for text in dags)


def test_missing_role_is_named_with_its_scope(azure: FakeAzure, recipe: AzureRecipe) -> None:
    for one in list(azure.store):
        if one.kind == "microsoft.authorization/roleassignments":
            azure.store.delete(one.id.text)
    with pytest.raises(FixableError) as caught:
        upload.run(AzureSession(recipe))
    line = str(caught.value)
    assert 'az role assignment create --role "Storage File Data Privileged Contributor"' in line
    assert f"--assignee-object-id {azure.login.principal} --assignee-principal-type" in line
    assert line.count("/storageAccounts/st") == 1
    assert "\n" not in line
    assert flow_service(azure).flows == {}


def test_lost_answer_of_an_upload_leaves_two_of_which_one_counts(
    azure: FakeAzure, recipe: AzureRecipe
) -> None:
    azure.fail("POST .*/Flows$", how="lost")
    upload.run(AzureSession(recipe))
    assert len(flow_service(azure).flows) == 3
    again = upload.run(AzureSession(recipe))
    assert not again.changed
    assert "older uploads" in again.detail


def test_faults_are_one_line_and_the_same_command_goes_on(
    azure: FakeAzure, recipe: AzureRecipe
) -> None:
    faults = [
        ("GET .*/Flows$", "token", "az login"),
        ("PUT .*file.core.*/promptflow$", "forbidden", "Storage File Data Privileged Contributor"),
        ("POST .*/Flows$", "conflict", "409 Conflict"),
    ]
    for match, how, said in faults:
        azure.fail(match, how=how)
        with pytest.raises(FixableError, match=said) as caught:
            upload.run(AzureSession(recipe))
        assert "\n" not in str(caught.value)
    assert upload.run(AzureSession(recipe)).changed
    names = [flow["flowName"].rpartition("-")[0] for flow in flow_service(azure).flows.values()]
    assert names == FLOWS


def test_the_contract_refuses_what_it_does_not_declare(contracts: Contracts) -> None:
    wrong = check_schema("CreateFlowRequest", {"flowName": 1, "unknown": True})
    assert wrong is not None
    assert len(wrong.errors) == 2
