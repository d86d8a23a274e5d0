"""Recipes for Azure: what is refused when they are loaded, and which names they lead to."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from setup.azure.client.arm import HOST, Arm
from setup.azure.client.names import derive_names, role_assignment_name, unique_token
from setup.cli.options import show_result
from setup.cli.targets import session_of
from setup.common import console
from setup.common.errors import FixableError
from setup.common.step import Result
from setup.recipe.load import load_any_recipe, load_azure_recipe, load_recipe

SUBSCRIPTION = "44444444-4444-4444-8444-444444444444"


@pytest.mark.parametrize("name", ["phi-azure", "gguf-azure"])
def test_target_chooses_the_kind_of_recipe(name: str) -> None:
    recipe = load_azure_recipe(name, [])
    assert recipe == load_any_recipe(name, [])
    assert recipe.target == "azure"
    with pytest.raises(FixableError, match=r"is for target azure.*--recipe laptop"):
        load_recipe(name, [])
    with pytest.raises(FixableError, match=r"is for target local.*--recipe phi-azure"):
        load_azure_recipe("laptop", [])


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("azure.location=East US 2", "azure.location: String should match"),
        ("azure.subscription=mine", "azure.subscription: String should match"),
        ("azure.storage=With-Dashes", "azure.storage: String should match"),
        ("endpoint.sku=NC24ads_A100_v4", "endpoint.sku: String should match"),
        ("endpoint.name=2phi", "endpoint.name: String should match"),
        ("endpoint.request_timeout_ms=200000", "less than or equal to 180000, got 200000"),
        ("endpoint.canary=0", "greater than or equal to 1, got 0"),
        ("endpoint.port=8008", "endpoint.port: unknown field"),
        ("endpoint.kind=gguf", "endpoint.kind gguf needs finetune.route own"),
        ("finetune.route=own", "finetune: route own needs trainer"),
        ("finetune.component_version=", "finetune: route catalog needs component_registry"),
        ("model.source=phi.gguf", "recipe phi-azure.yaml: model.source is neither"),
    ],
)
def test_bad_value_is_refused_in_one_line(override: str, says: str) -> None:
    with pytest.raises(FixableError) as refused:
        load_azure_recipe("phi-azure", [override])
    assert says in str(refused.value)
    assert len(str(refused.value)) < 300


def test_source_is_read_as_what_it_is() -> None:
    asset = load_azure_recipe("phi-azure", []).model
    assert asset.asset == ("azureml", "Phi-4", "8")
    assert (asset.name, asset.huggingface_id) == ("Phi-4", "")
    for source in ("microsoft/Phi-4-mini-instruct", "hf:microsoft/Phi-4-mini-instruct"):
        hub = load_azure_recipe("phi-azure", [f"model.source={source}"]).model
        assert hub.asset is None
        assert hub.huggingface_id == "microsoft/Phi-4-mini-instruct"


def test_inputs_become_what_the_component_takes() -> None:
    sets = ["finetune.inputs.apply_lora=false", "finetune.inputs.num_train_epochs=2"]
    inputs = load_azure_recipe("phi-azure", sets).finetune.component_inputs()
    assert inputs["apply_lora"] == "false"
    assert inputs["apply_deepspeed"] == "true"
    assert inputs["num_train_epochs"] == 2
    assert inputs["precision"] == "16"


def test_ids_are_taken_as_text() -> None:
    recipe = load_azure_recipe("phi-azure", [f"azure.subscription={SUBSCRIPTION}"])
    assert recipe.azure.subscription == SUBSCRIPTION
    assert load_azure_recipe("phi-azure", ["registry.model=null"]).registry.model == "null"


def test_names_are_the_same_every_time_and_other_for_another_group() -> None:
    recipe = load_azure_recipe("phi-azure", [])
    names = derive_names(recipe, SUBSCRIPTION)
    assert names == derive_names(recipe, SUBSCRIPTION.upper())
    other = derive_names(load_azure_recipe("phi-azure", ["azure.resource_group=b"]), SUBSCRIPTION)
    for field in ("storage", "key_vault", "registry", "endpoint"):
        assert getattr(names, field) != getattr(other, field)
    assert re.fullmatch("[a-z0-9]{3,24}", names.storage)
    assert re.fullmatch("[a-z][a-z0-9-]{1,22}[a-z0-9]", names.key_vault)
    assert re.fullmatch("[a-zA-Z0-9]{5,50}", names.registry)


def test_names_of_the_recipe_are_kept_and_long_ones_fit() -> None:
    sets = ["azure.storage=mine", "endpoint.name=answers", "name=a-name-of-thirty-two-characters"]
    names = derive_names(load_azure_recipe("phi-azure", sets), SUBSCRIPTION)
    assert (names.storage, names.endpoint) == ("mine", "answers")
    derived = derive_names(load_azure_recipe("phi-azure", sets[2:]), SUBSCRIPTION).endpoint
    assert re.fullmatch("[a-z][a-z0-9-]{1,30}[a-z0-9]", derived)
    assert derived.endswith(unique_token(SUBSCRIPTION, "finetune-phi"))


def test_role_assignment_is_found_again() -> None:
    first = role_assignment_name("/subscriptions/A", "who", "role")
    assert first == role_assignment_name("/subscriptions/a", "WHO", "role")
    assert first != role_assignment_name("/subscriptions/a", "who", "other")


def test_next_commands_name_the_recipe_as_it_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command without the --set would be about another group."""
    told = io.StringIO()
    monkeypatch.setattr(console.err, "file", told)
    monkeypatch.setattr(console.out, "file", sys.stdout)
    path = tmp_path / "my recipe.yaml"
    path.write_text(Path("setup/recipes/phi-azure.yaml").read_text("utf-8"), "utf-8")
    recipe = load_azure_recipe(str(path), ["azure.resource_group=mine"])
    command = recipe.command("teardown")
    typed = f"--recipe '{path}' --set azure.resource_group=mine"
    assert command == f"python -m setup teardown {typed}"
    with session_of(recipe):
        show_result(Result("deploy", True, f"costs until {command}", command), as_json=False)
    assert capsys.readouterr().out == f"deploy: costs until python -m setup teardown {typed}\n"
    with pytest.raises(FixableError) as failed, session_of(recipe):
        raise FixableError("no workspace", "python -m setup provision --recipe NAME")
    assert failed.value.fix == f"python -m setup provision {typed}"
    with pytest.raises(KeyboardInterrupt), session_of(recipe):
        raise KeyboardInterrupt
    assert told.getvalue().endswith(f"may cost until: python -m setup teardown {typed}\n")


def test_next_page_is_found_however_its_host_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def send(_: Arm, __: str, url: str, *___: Any) -> Any:
        asked.append(url.removeprefix(HOST))
        following = "https://Management.azure.com:443/items?api-version=1&$skipToken=a%2Fb"
        page: dict[str, Any] = {"value": [{"page": len(asked)}]}
        if len(asked) == 1:
            page["nextLink"] = following
        return SimpleNamespace(http_response=SimpleNamespace(content=b"{", json=lambda: page))

    monkeypatch.setattr(Arm, "_run", send)
    arm = Arm.__new__(Arm)
    assert [item["page"] for item in arm.list("/items", "1")] == [1, 2]
    assert asked == ["/items", "/items?api-version=1&$skipToken=a%2Fb"]
