"""An adapter that is no plain LoRA, or of another model, is one line, and nothing is registered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from setup.weights.adapter import CONFIG, WEIGHTS
from tests.azure.commands import run_setup
from tests.setup.finetune.machine import Machine
from tests.setup.weights.adapters.conftest import MakeForeign
from tests.setup.weights.adapters.foreign import Foreign

Q = "base_model.model.model.layers.0.self_attn.q_proj"


def refused(machine: Machine, folder: Path, *sets: str) -> str:
    """The one line with which ``register --adapter`` fails; nothing of it stays."""
    before = sorted((machine.home.path / "finetunes").glob("*"))
    done = machine.setup("register", *sets, options=("--adapter", str(folder)))
    assert done.returncode == 1, done.stdout
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert " Fix: " in line
    assert "Traceback" not in done.stderr
    assert sorted((machine.home.path / "finetunes").glob("*")) == before
    return line


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dora": True}, "LoRA with use_dora"),
        (
            {"modules_to_save": ["lm_head", "embed_tokens"]},
            "modules_to_save (lm_head, embed_tokens)",
        ),
        ({"trainable_token_indices": [5]}, "trainable_token_indices"),
        ({"peft_type": "IA3"}, "IA3 adapters"),
        ({"task_type": "SEQ_CLS"}, "a model for SEQ_CLS, not for chat"),
        ({"init_lora_weights": "pissa"}, "begun as pissa"),
        ({"lora_alpha": ...}, "no positive number as lora_alpha"),
        ({"r": 3}, "says r is 3"),
        ({"a_setting_of_tomorrow": True}, "a_setting_of_tomorrow"),
    ],
)
def test_other_kinds(
    llama: Machine, foreign: MakeForeign, changes: dict[str, Any], message: str
) -> None:
    adapter = foreign()
    adapter.configure(**changes)
    assert message in refused(llama, adapter.folder)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("base_model.model.model.layers.0.self_attn.q_proj.base_layer.bias", "a trained bias"),
        (f"{Q}.lora_magnitude_vector", "a magnitude of DoRA"),
        ("base_model.model.model.norm.modules_to_save.weight", "a whole trained module"),
        ("base_model.model.model.layers.0.self_attn.q_proj.hada_w1_a", "no LoRA matrix"),
        (f"{Q}.lora_A.other.weight", "several adapters"),
    ],
)
def test_other_tensors(llama: Machine, foreign: MakeForeign, key: str, message: str) -> None:
    import torch

    adapter = foreign()
    adapter.rewrite(lambda tensors: {**tensors, key: torch.ones(4, 64)})
    assert message in refused(llama, adapter.folder)


def test_another_model(llama: Machine, phi: Machine, foreign: MakeForeign) -> None:
    """What fits nowhere is named, and the model it was trained on, as far as the adapter says."""
    adapter = foreign()
    line = refused(phi, adapter.folder)
    assert "does not fit" in line
    assert "is not a matrix of that model" in line
    assert "to the model it was trained on (someone/tiny-chat)" in line
    adapter.rename(lambda key: key.replace("layers.2", "layers.7"))
    assert "model.layers.7." in refused(llama, adapter.folder)


def test_another_shape(llama: Machine, foreign: MakeForeign) -> None:
    adapter = foreign(target_modules=["q_proj"])
    adapter.rewrite(
        lambda tensors: {
            key: value.repeat(1, 2) if "lora_A" in key else value for key, value in tensors.items()
        }
    )
    line = refused(llama, adapter.folder)
    assert "q_proj is (64, 128), there it is (64, 64)" in line


def test_embedding_that_is_the_output_too(llama: Machine, foreign: MakeForeign) -> None:
    adapter = foreign(target_modules=["embed_tokens"])
    assert "which is the output matrix there too" in refused(llama, adapter.folder)


def test_trained_embedding(phi: Machine, foreign: MakeForeign) -> None:
    adapter = foreign("phi3", target_modules=["lm_head"])
    whole = next(key for key in _keys(adapter) if "lm_head" in key and "lora" not in key)
    adapter.rewrite(lambda tensors: {**tensors, whole: tensors[whole] * 2})
    assert "a lm_head of its own" in refused(phi, adapter.folder)
    adapter.rewrite(lambda tensors: {**tensors, whole: tensors[whole][:-8].clone()})
    assert "its vocabulary is another" in refused(phi, adapter.folder)


def _keys(adapter: Foreign) -> list[str]:
    from safetensors.numpy import load_file

    return list(load_file(adapter.folder / WEIGHTS))


def test_code_in_a_pickle_is_not_run(llama: Machine, foreign: MakeForeign, tmp_path: Path) -> None:
    import pickle

    adapter = foreign()
    (adapter.folder / WEIGHTS).unlink()
    content = pickle.dumps({"key": _Trap(str(tmp_path / "ran"))})
    (adapter.folder / "adapter_model.bin").write_bytes(content)
    assert "which is not run" in refused(llama, adapter.folder)
    assert not (tmp_path / "ran").exists()


class _Trap:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return open, (self.path, "w")


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
@pytest.mark.parametrize("left", [0.0, 0.5])
def test_damaged(llama: Machine, foreign: MakeForeign, name: str, left: float) -> None:
    path = foreign().folder / name
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * left)])
    assert name in refused(llama, path.parent)


def test_no_adapter(llama: Machine, foreign: MakeForeign, tmp_path: Path) -> None:
    assert "is not there" in refused(llama, tmp_path / "nothing")
    adapter = foreign().folder
    (adapter / "README.md").touch()
    assert "is a file" in refused(llama, adapter / "README.md")
    checkpoints = tmp_path / "trainer"
    checkpoints.mkdir()
    adapter.rename(checkpoints / "checkpoint-200")
    line = refused(llama, checkpoints)
    assert "1 of its folders" in line
    assert f'--adapter "{checkpoints / "checkpoint-200"}"' in line
    (checkpoints / "checkpoint-200" / WEIGHTS).unlink()
    assert "holds neither" in refused(llama, checkpoints / "checkpoint-200")


def test_no_data(llama: Machine, foreign: MakeForeign, tmp_path: Path) -> None:
    line = refused(llama, foreign().folder, f"data.out={tmp_path / 'elsewhere'}")
    assert "python -m setup data" in line


def test_in_azure(foreign: MakeForeign) -> None:
    arguments = ("register", "--recipe", "phi-azure", "--adapter", str(foreign().folder))
    done = run_setup(*arguments)
    assert done.returncode == 1
    assert "error: --adapter is for target local, and phi-azure is of target azure" in done.stderr


def test_plan(llama: Machine, foreign: MakeForeign) -> None:
    options = ("--adapter", str(foreign().folder), "--dry-run", "--json")
    plan = json.loads(llama.setup("register", options=options).stdout)["plan"]
    assert "held-out loss of the adapter in" in plan[0]
