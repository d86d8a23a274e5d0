"""A model of our own trainer behind vLLM: how it is started, described, registered and asked."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from setup.azure.client.session import AzureSession
from setup.azure.deploy import registration
from setup.azure.deploy import step as deploy
from setup.azure.deploy.container import IMAGES, write_context
from setup.common.errors import FixableError
from setup.recipe.azure import AzureRecipe
from setup.recipe.load import load_azure_recipe
from setup.serve.container.vllm.serve_vllm import command
from tests.azure.fake import FakeAzure
from tests.azure.serving import deployments_of, make_workspace, traffic_of, workspace_id

PATIENT = [f"endpoint.{probe}.initial_delay=600" for probe in ("liveness", "readiness")]
VLLM = ["endpoint.kind=vllm", "endpoint.sku=Standard_NC24ads_A100_v4", *PATIENT]


@pytest.fixture
def served(azure: FakeAzure) -> AzureRecipe:
    """gguf-azure behind vLLM, with version 1 as safetensors."""
    recipe = make_workspace(azure, *VLLM, name="gguf-azure")
    tag(azure, recipe, "transformers")
    azure.subscription.limits["standardNCADSA100v4Family"] = 1000
    azure.serves = "openai"
    return recipe


def tag(azure: FakeAzure, recipe: AzureRecipe, form: str) -> None:
    """Version 1 in a form."""
    at = f"{workspace_id(azure, recipe)}/models/{recipe.registry.model}/versions/1"
    azure.store.need(at).properties["tags"] = {"form": form}


def folder_with(root: Path, *files: str) -> Path:
    folder = root / "model"
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).write_text("{}")
    return folder


WHOLE = ("config.json", "model.safetensors", "chat_template.jinja")


def test_start_finds_the_model_and_every_gpu(tmp_path: Path) -> None:
    model = folder_with(tmp_path / "mounted" / "1", *WHOLE)
    devices = tmp_path / "dev"
    devices.mkdir()
    for name in ("nvidia0", "nvidia1", "nvidiactl"):
        (devices / name).touch()
    told = {
        "AZUREML_MODEL_DIR": str(tmp_path / "mounted"),
        "DEPLOYMENT": "tuned-blue",
        "MODEL": "gguf-azure",
        "CONTEXT_WINDOW": "2048",
        "SLOTS": "8",
    }
    words = command(told, devices)
    assert words[:3] == ["vllm", "serve", str(model)]
    options = dict(zip(words[3:-3:2], words[4:-3:2], strict=True))
    assert options == {
        "--host": "0.0.0.0",
        "--port": "8080",
        "--max-model-len": "2048",
        "--max-num-seqs": "8",
        "--tensor-parallel-size": "2",
    }
    assert words[-3:] == ["--served-model-name", "tuned-blue", "gguf-azure"]
    assert "--tensor-parallel-size 1" in " ".join(command(told, tmp_path / "none"))


@pytest.mark.parametrize(
    ("files", "what"),
    [
        (("config.json",), "holds 0 folders with config.json and .safetensors"),
        (("config.json", "model.safetensors"), "has no chat template"),
        (
            ("config.json", "model.safetensors", "tokenizer_config.json"),
            "has no chat template",
        ),
    ],
)
def test_what_cannot_be_served_is_the_last_word(
    tmp_path: Path, files: tuple[str, ...], what: str
) -> None:
    folder_with(tmp_path, *files)
    with pytest.raises(SystemExit, match=what):
        command({"AZUREML_MODEL_DIR": str(tmp_path)})


def test_a_template_inside_the_tokenizer_counts(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, *WHOLE[:2])
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    assert str(folder) in command({"AZUREML_MODEL_DIR": str(tmp_path)})


def test_image_is_the_official_one_of_one_version(tmp_path: Path) -> None:
    write_context(tmp_path, "vllm")
    assert {path.name for path in tmp_path.iterdir()} == {"Dockerfile", "serve_vllm.py"}
    text = (tmp_path / "Dockerfile").read_text()
    assert re.search(r"BASE=docker\.io/vllm/vllm-openai:v\d+\.\d+\.\d+-cu12\d$", text, re.MULTILINE)
    assert text.index("USER scoring") > text.index("useradd")
    assert IMAGES["vllm"].routes["scoring"] == "/v1/chat/completions"


def test_version_is_rolled_out_as_any_other(azure: FakeAzure, served: AzureRecipe) -> None:
    plan = "\n".join(deploy.plan(AzureSession(served)))
    assert "build the image of environment vllm-scoring:" in plan
    assert deploy.run(AzureSession(served)).changed
    assert traffic_of(azure) == {"tuned-blue": 100}
    properties = deployments_of(azure)["tuned-blue"].properties
    environment = azure.store.need(properties["environmentId"])
    routes = environment.properties["inferenceConfig"]
    assert routes["scoringRoute"] == {"path": "/v1/chat/completions", "port": 8080}
    assert routes["livenessRoute"]["path"] == routes["readinessRoute"]["path"] == "/health"
    assert properties["environmentVariables"]["MODEL"] == "gguf-azure"
    assert properties["livenessProbe"]["initialDelay"] == "PT10M"
    assert {one.path for one in azure.find(r"POST .*inference\.ml")} == {"/v1/chat/completions"}
    assert azure.violations == []
    azure.clear()
    assert not deploy.run(AzureSession(served)).changed
    assert azure.writes == []


def test_a_version_in_another_form_is_refused(azure: FakeAzure, served: AzureRecipe) -> None:
    tag(azure, served, "gguf")
    with pytest.raises(FixableError, match="is of type gguf, and"):
        registration.find_version(AzureSession(served))
    tag(azure, served, "transformers")
    gguf = served.model_copy(
        update={"endpoint": served.endpoint.model_copy(update={"kind": "gguf"})}
    )
    with pytest.raises(FixableError, match="is of type transformers, and"):
        registration.find_version(AzureSession(gguf))


@pytest.mark.parametrize(
    ("recipe", "sets", "what"),
    [
        ("gguf-azure", ["endpoint.kind=vllm"], "answers no probe before the model is loaded"),
        ("gguf-azure", [*VLLM, "endpoint.contract=score"], "asked by contract openai, not score"),
        ("phi-azure", ["endpoint.kind=vllm"], "kind vllm needs finetune.route own"),
    ],
)
def test_recipe_that_cannot_be_is_refused(recipe: str, sets: list[str], what: str) -> None:
    with pytest.raises(FixableError, match=what):
        load_azure_recipe(recipe, sets)


def test_kind_decides_the_contract() -> None:
    assert load_azure_recipe("gguf-azure", VLLM).endpoint.contract == "openai"
