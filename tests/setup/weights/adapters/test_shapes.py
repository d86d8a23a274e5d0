"""Whatever shape a LoRA has, it is registered as the model that peft computes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from setup.weights.adapter import WEIGHTS
from tests.setup.finetune.machine import Machine
from tests.setup.weights.adapters.conftest import MakeForeign
from tests.setup.weights.adapters.foreign import Foreign, held_out
from tests.tiny import transformers_folder

_PREFIX = "base_model.model."


def _half(foreign: Foreign) -> None:
    foreign.rewrite(lambda tensors: {key: value.bfloat16() for key, value in tensors.items()})
    # The reference is rounded as the file is.
    for name, weights in foreign.model.named_parameters():
        if "lora_" in name:
            weights.data = weights.data.bfloat16().float()


def _pickle(foreign: Foreign) -> None:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(foreign.folder / WEIGHTS), foreign.folder / "adapter_model.bin")
    (foreign.folder / WEIGHTS).unlink()


def _named(change: Callable[[str], str]) -> Callable[[Foreign], None]:
    return lambda foreign: foreign.rename(change)


def _nothing(_: Foreign) -> None:
    pass


SHAPES: dict[str, tuple[dict[str, Any], Callable[[Foreign], None], str]] = {
    "all linear layers": ({}, _nothing, ""),
    "a regular expression": ({"target_modules": r".*\.(q_proj|up_proj)"}, _nothing, ""),
    "two modules": ({"target_modules": ["v_proj", "down_proj"]}, _nothing, ""),
    "two layers": (
        {"target_modules": ["q_proj"], "layers_to_transform": [0, 2]},
        _nothing,
        "",
    ),
    "rsLoRA with patterns": (
        {
            "use_rslora": True,
            "rank_pattern": {"q_proj": 2, r"layers\.1\.mlp\..*": 6},
            "alpha_pattern": {"up_proj": 5},
        },
        _nothing,
        "",
    ),
    "biases it has not": ({"bias": "all"}, _nothing, "bias=all has no effect"),
    "for Conv1D": (
        {},
        lambda foreign: foreign.configure(fan_in_fan_out=True),
        "fan_in_fan_out has no effect",
    ),
    "no task": ({"task_type": None}, _nothing, ""),
    "bfloat16": ({}, _half, ""),
    "a pickle": ({}, _pickle, ""),
    "the adapter's name kept": (
        {},
        _named(lambda key: key.replace(".weight", ".default.weight")),
        "and its like are read as",
    ),
    "no prefix": ({}, _named(lambda key: key.removeprefix(_PREFIX)), "are read as"),
    "no head": ({}, _named(lambda key: key.replace(".model.layers", ".layers")), "are read as"),
    "compiled": (
        {},
        _named(lambda key: key.replace(_PREFIX, f"_orig_mod.{_PREFIX}_orig_mod.")),
        "are read as",
    ),
    "sharded": (
        {},
        _named(lambda key: re.sub(r"(layers\.\d+\.)", r"\1_fsdp_wrapped_module.", key)),
        "are read as",
    ),
    "of a model that sees": (
        {},
        _named(lambda key: key.replace("model.layers", "model.language_model.layers")),
        "are read as",
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_registered_as_peft_computes_it(llama: Machine, foreign: MakeForeign, shape: str) -> None:
    config, change, remark = SHAPES[shape]
    adapter = foreign(**config)
    change(adapter)
    _register(llama, adapter, remark)


@pytest.mark.parametrize("modules", [["embed_tokens", "qkv_proj"], ["lm_head", "o_proj"]])
def test_embedding_and_output(phi: Machine, foreign: MakeForeign, modules: list[str]) -> None:
    adapter = foreign("phi3", target_modules=modules)
    _register(phi, adapter, f"{modules[0]}, which lies whole beside the adapter, is the base's own")


def _register(machine: Machine, adapter: Foreign, remark: str) -> None:
    done = machine.setup("register", options=("--adapter", str(adapter.folder), "--json"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert remark in done.stderr
    number = int(re.findall(r"version (\d+) of", done.stdout)[0])
    version = _version(machine, number)
    expected = adapter.loss(held_out(machine, adapter.tokenizer))
    assert version["held_out_after"] == pytest.approx(expected, abs=2e-5)
    assert "adapter shop-lora, trained on someone/tiny-chat, sha256" in version["origin"]
    _compare(machine, adapter, version)


def _version(machine: Machine, number: int) -> dict[str, Any]:
    listed = json.loads(machine.setup("models", options=("--json",)).stdout)["versions"]
    return next(version for version in listed if version["number"] == number)


def _compare(machine: Machine, adapter: Foreign, version: dict[str, Any]) -> None:
    """What is kept loads in peft as the same model; what is exported is its merge in halves."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    registered = Path(version["adapter"])
    source = next(value for value in machine.sets if value.startswith("model.source="))
    base = transformers_folder(Path(source.partition("=")[2]))
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    again = PeftModel.from_pretrained(model, registered).eval()
    ids = torch.arange(3, 40).unsqueeze(0)
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, adapter.model(ids).logits)
    out = registered.parents[5] / "merged"
    options = ("--form", "transformers", "--out", str(out), "--version", str(version["number"]))
    done = machine.setup("export", options=options)
    assert done.returncode == 0, done.stderr
    merged = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).state_dict()
    for name, weights in again.merge_and_unload().state_dict().items():
        # Half precision keeps eleven bits.
        torch.testing.assert_close(merged[name], weights, rtol=2**-11, atol=1e-6)
