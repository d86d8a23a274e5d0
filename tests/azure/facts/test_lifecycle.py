"""Retired models and SKUs: our dated table, and what a registry says of its model."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from setup.azure.client.money import UNKNOWN, endpoint_costs, finetune_costs, legend, price_class
from setup.azure.client.session import AzureSession
from setup.azure.facts import lifecycle
from setup.common.errors import FixableError
from setup.recipe.load import load_azure_recipe
from tests.azure.commands import run_setup
from tests.azure.fake import FakeAzure
from tests.azure.fake.messages import Reply
from tests.home import ROOT, failed

PHI_3 = "azureml://registries/azureml/models/Phi-3-mini-4k-instruct/versions/15"
RETIRED_SKUS = ["Standard_NC6s_v3", "Standard_NC24rs_v3", "STANDARD_NC12S_V3", "Standard_NV12s_v3"]


def test_our_recipes_use_nothing_that_ends() -> None:
    for name in ("phi-azure", "gguf-azure"):
        recipe = load_azure_recipe(name, [])
        assert lifecycle.retirements(recipe) == []
        lifecycle.refuse_retired(recipe)


def test_the_tutorials_model_and_sku_are_refused_with_their_replacements() -> None:
    recipe = load_azure_recipe(
        "phi-azure", [f"model.source={PHI_3}", "endpoint.sku=Standard_NC6s_v3"]
    )
    with pytest.raises(FixableError) as refused:
        lifecycle.refuse_retired(recipe)
    line = str(refused.value)
    assert "Phi-3-mini-4k-instruct was retired on 2025-08-30" in line
    assert "replaced by Phi-4-mini-instruct" in line
    assert "Standard_NC6s_v3 was retired on 2025-09-30" in line
    sets = re.findall(r"--set (\S+)", refused.value.fix)
    lifecycle.refuse_retired(load_azure_recipe("phi-azure", sets))
    assert {"model.source", "endpoint.sku"} == {one.partition("=")[0] for one in sets}


@pytest.mark.parametrize("sku", RETIRED_SKUS)
@pytest.mark.parametrize("field", ["endpoint.sku", "finetune.compute.sku"])
def test_retired_sku_is_refused_wherever_it_stands(field: str, sku: str) -> None:
    value = sku.replace("STANDARD", "Standard")
    with pytest.raises(FixableError, match=f"--set {field}="):
        lifecycle.refuse_retired(load_azure_recipe("phi-azure", [f"{field}={value}"]))


def test_weights_on_the_hub_outlive_the_catalog() -> None:
    source = "model.source=microsoft/Phi-3-mini-4k-instruct"
    lifecycle.refuse_retired(load_azure_recipe("phi-azure", [source]))


def test_announced_end_is_told_and_refused_from_its_day_on(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_azure_recipe("gguf-azure", ["endpoint.sku=Standard_DS3_v2"])
    [found] = lifecycle.retirements(recipe)
    for sku in ("D1_v2", "DS12_v2", "D15_v2", "F8s_v2", "F4"):
        assert lifecycle.retirements(
            load_azure_recipe("gguf-azure", [f"endpoint.sku=Standard_{sku}"])
        )
    monkeypatch.setattr(lifecycle, "today", lambda: date(2028, 4, 30))
    assert "will be retired on 2028-05-01" in found.line()
    lifecycle.refuse_retired(recipe)
    monkeypatch.setattr(lifecycle, "today", lambda: date(2028, 5, 1))
    with pytest.raises(FixableError, match="was retired on 2028-05-01"):
        lifecycle.refuse_retired(recipe)


def test_every_row_has_a_date_a_source_and_a_pattern_that_compiles() -> None:
    path = ROOT / "setup" / "azure" / "facts" / "lifecycle.yaml"
    table = yaml.safe_load(path.read_text(encoding="utf-8"))
    for row in [*table["models"], *table["skus"]]:
        re.compile(row["name"])
        assert isinstance(row["retired"], date)
        assert row["source"].startswith("https://learn.microsoft.com/")
    assert lifecycle.checked_on() <= lifecycle.today()


@pytest.mark.parametrize("command", ["provision", "up"])
def test_retired_sku_ends_each_step_before_a_single_request(azure: FakeAzure, command: str) -> None:
    sets = ("--set", "finetune.compute.sku=Standard_NC6s_v3")
    done = run_setup(command, "--recipe", "phi-azure", "--yes", *sets)
    assert "Standard_NC24ads_A100_v4" in failed(done)
    assert azure.requests == []


@pytest.mark.parametrize(
    ("said", "objects"),
    [
        ({"deprecation": {"finetuneRetirementDate": "2025-08-30T00:00:00.000000Z"}}, True),
        ({"inference_retirement_date": "2020-01-01"}, True),
        ({"finetuneRetirementDate": "2999-01-01T00:00:00Z"}, False),
        ({"finetuneDeprecationDate": "2025-06-30"}, False),
        ({"finetuneRetirementDate": "soon"}, False),
        ({"isArchived": True}, True),
        ({"Archived": "false"}, False),
        ({"Preview": "", "Featured": ""}, False),
    ],
)
def test_what_a_registry_says_is_understood(said: dict[str, Any], objects: bool) -> None:
    assert bool([*lifecycle.objections(said)]) is objects


def test_published_model_spec_of_the_tutorial_objects() -> None:
    spec = ROOT.parent / "shared" / "specs" / "azureml-assets" / "phi3.yaml"
    if not spec.is_file():
        pytest.skip(f"no copy of the published model specs: {Path(*spec.parts[-4:])}")
    content = yaml.safe_load(spec.read_text(encoding="utf-8"))
    lines = [*lifecycle.objections(content)]
    assert "archived" in lines
    assert "finetuneRetirementDate 2025-08-30" in lines


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/discovery", "<html>Sign in to the proxy</html>"),
        ("/discovery", {"registryName": "azureml"}),
        ("/discovery", []),
        ("/models/", {"properties": None}),
    ],
)
def test_registry_that_answers_something_else_says_nothing(
    azure: FakeAzure, monkeypatch: pytest.MonkeyPatch, path: str, body: Any
) -> None:
    usual, session = azure.dispatch, AzureSession(load_azure_recipe("phi-azure", []))
    monkeypatch.setattr(
        azure, "dispatch", lambda one: Reply(body=body) if path in one.path else usual(one)
    )
    with pytest.raises(FixableError, match=r"asking registry azureml .* unknown shape"):
        lifecycle.registry_says(session)
    lifecycle.refuse_objected(session)
    assert len(azure.find(path)) == 2


def test_prices_are_classes_with_a_date() -> None:
    recipe = load_azure_recipe("phi-azure", ["finetune.compute.nodes=2"])
    assert "2 x Standard_NC24ads_A100_v4, $$$ an hour while" in finetune_costs(recipe).line()
    assert "$$$ an hour until it is deleted" in endpoint_costs(recipe, "e").line()
    assert price_class("Standard_E4s_v3") == "$$"
    assert price_class("Standard_D2s_v3") == "$"
    assert price_class("STANDARD_ND96ISR_H100_V5") == "$$$$"
    assert price_class("Standard_Unheard_of") == UNKNOWN
    assert re.search(r"\d{4}-\d\d-\d\d", legend())


def test_every_sku_that_is_named_has_a_price() -> None:
    """Those that are retired, and what Microsoft names in their place."""
    table = yaml.safe_load((ROOT / "setup/azure/facts/lifecycle.yaml").read_text("utf-8"))["skus"]
    named = """NC6s_v3 NC12s_v3 NC24s_v3 NC24rs_v3 NV12s_v3 NV24s_v3 NV48s_v3 NV4as_v4 NV8as_v4
        NV16as_v4 NV32as_v4 NV6 NV12 NV24 NV6_Promo D1_v2 D2_v2 D3_v2 D4_v2 D5_v2 D11_v2 D12_v2
        D13_v2 D14_v2 D15_v2 DS1_v2 DS2_v2 DS3_v2 DS4_v2 DS5_v2 DS11_v2 DS11-1_v2 DS12_v2 DS13_v2
        DS13-4_v2 DS14_v2 DS14-8_v2 DS15_v2 D2_v2_Promo F1 F2 F4 F8 F16 F1s F2s F4s F8s F16s
        F2s_v2 F4s_v2 F8s_v2 F16s_v2 F32s_v2 F48s_v2 F64s_v2 F72s_v2"""
    skus = [f"Standard_{name}" for name in named.split()]
    for row in table:
        assert any(re.fullmatch(row["name"], sku) for sku in skus), row["name"]
    skus += [row["replaced_by"] for row in table if row["replaced_by"]]
    assert [sku for sku in skus if price_class(sku) == UNKNOWN] == []
