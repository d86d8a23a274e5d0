"""What cannot be exported is refused in one line, and nothing is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from setup.common.errors import FixableError
from setup.weights.adapter import CONFIG, WEIGHTS, read_adapter
from setup.weights.gguf_write import merge_into_gguf, write_adapter_gguf
from setup.weights.transformers_write import write_merged_safetensors
from tests.setup.weights.tuned import Tuned, make_tuned

Q = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
Weights = dict[str, Any]


@pytest.fixture
def folder(llama: Tuned, tmp_path: Path) -> Path:
    """A copy of an adapter, to be spoilt."""
    return Path(shutil.copytree(llama.adapter, tmp_path / "adapter"))


def _spoil(folder: Path, change: Callable[[Weights], Any]) -> None:
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS)


def _configure(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / CONFIG).read_text()) | changes
    kept = {name: value for name, value in config.items() if value is not ...}
    (folder / CONFIG).write_text(json.dumps(kept))


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(FixableError, match=f"there is no {name}.*Fix: .*setup finetune"):
        read_adapter(folder)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
@pytest.mark.parametrize("left", [0.0, 0.001, 0.9])
def test_file_cut_off(folder: Path, name: str, left: float) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(left * len(content))])
    with pytest.raises(FixableError, match=name):
        read_adapter(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(folder: Path, value: float) -> None:
    _spoil(folder, lambda weights: weights[Q.format("B")].__setitem__((1, 2), value))
    with pytest.raises(FixableError, match=r"layers\.0\.self_attn\.q_proj.*not finite"):
        read_adapter(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": ...}, "no positive number as r"),
        ({"lora_alpha": ...}, "no positive number as lora_alpha"),
        ({"lora_alpha": 0}, "no positive number as lora_alpha"),
        ({"lora_alpha": "16"}, "no positive number as lora_alpha"),
        ({"r": True}, "no positive number as r"),
        ({"r": 2.5}, "not a whole number"),
        ({"r": 8}, "r is 8"),
        ({"peft_type": "IA3"}, "IA3 adapters, which cannot be exported"),
        ({"peft_type": "ADALORA"}, "ADALORA adapters, which cannot be exported"),
        ({"peft_type": "LOHA"}, "LOHA adapters, which cannot be exported"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "LoRA with bias"),
        ({"bias": "lora_only", "lora_bias": True}, "LoRA with bias, lora_bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"target_parameters": ["experts.gate_up_proj"]}, "target_parameters"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens"),
        ({"a_setting_of_tomorrow": {"x": 1}}, "LoRA with a_setting_of_tomorrow"),
        ({"init_lora_weights": "pissa_niter_4"}, "begun as pissa_niter_4, .*weight_conversion"),
        ({"init_lora_weights": "CorDA"}, "begun as CorDA, .*weight_conversion"),
        ({"init_lora_weights": "loftq"}, "begun as loftq, .*Fix: train it as plain LoRA"),
        ({"init_lora_weights": "mica"}, "begun as mica, .*Fix: train it as plain LoRA"),
        ({"alpha_pattern": {"q_proj": -4}}, "no positive number as q_proj"),
        ({"rank_pattern": {"q_proj": 2}}, r"q_proj has .* though .* says r is 2"),
        ({"rank_pattern": {"(": 2}}, "rank_pattern in .* is not a table of patterns"),
        ({"rank_pattern": [2]}, "rank_pattern in .* is not a table of patterns"),
    ],
)
def test_configuration(folder: Path, changes: dict[str, Any], message: str) -> None:
    _configure(folder, **changes)
    with pytest.raises(FixableError, match=message):
        read_adapter(folder)


@pytest.mark.parametrize("beginning", ["pissa", "olora"])
def test_adapter_that_takes_its_base_apart(llama: Tuned, tmp_path: Path, beginning: str) -> None:
    """The fix works to the letter: converted with peft, it merges to what peft merges."""
    import torch
    from transformers import AutoModelForCausalLM

    tuned = make_tuned(
        llama.base, tmp_path / "adapter", 0.2, init_lora_weights=beginning, convertible=True
    )
    with pytest.raises(FixableError, match=f"begun as {beginning}, which changes the base") as told:
        read_adapter(tmp_path / "adapter")
    assert "save_pretrained(FOLDER, path_initial_model_for_weight_conversion" in str(told.value)
    converted = tmp_path / "converted"
    tuned.model.save_pretrained(
        str(converted), path_initial_model_for_weight_conversion=str(tmp_path / "adapter-begun")
    )
    write_merged_safetensors(llama.base, read_adapter(converted), tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    expected = tuned.model.merge_and_unload().state_dict()
    for name, weights in merged.state_dict().items():
        torch.testing.assert_close(weights, expected[name], rtol=2**-10, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.clear(), "holds no weights"),
        (lambda weights: weights.pop(Q.format("B")), "only one of lora_A and lora_B"),
        (lambda weights: weights.update({"x.weight": np.ones(2)}), "x.weight, which is not a LoRA"),
        (lambda weights: weights.update({Q.format("A"): np.ones(4)}), "not two dimensions"),
    ],
)
def test_weights(folder: Path, change: Callable[[Weights], Any], message: str) -> None:
    _spoil(folder, change)
    with pytest.raises(FixableError, match=message):
        read_adapter(folder)


def test_weights_that_numpy_has_no_type_for(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file as save_torch

    save_torch({Q.format("A"): torch.ones(4, 64, dtype=torch.bfloat16)}, folder / WEIGHTS)
    with pytest.raises(FixableError, match=r"bfloat16.*Fix: save the adapter in float32"):
        read_adapter(folder)


def _refused(base: Path, folder: Path, message: str, *, folder_too: bool = True) -> None:
    """Every export of the adapter onto ``base`` fails with ``message`` and leaves nothing."""
    adapter, target = read_adapter(folder), folder.parent / "out"
    before = set(folder.parent.iterdir())
    with pytest.raises(FixableError, match=message):
        merge_into_gguf(base, adapter, target, lambda *_: None)
    with pytest.raises(FixableError, match=message):
        write_adapter_gguf(base, adapter, target)
    if folder_too:
        with pytest.raises(FixableError, match=message):
            write_merged_safetensors(base, adapter, target)
    assert set(folder.parent.iterdir()) == before


def _rename(weights: Weights, old: str, new: str) -> None:
    for side in "AB":
        weights[Q.format(side).replace(old, new)] = weights.pop(Q.format(side))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("layers.0", "layers.3"),
        ("q_proj", "qkv_proj"),
        ("model.layers.0.self_attn.q_proj", "lm_head"),
    ],
)
def test_module_that_the_base_has_not(llama: Tuned, folder: Path, old: str, new: str) -> None:
    _spoil(folder, lambda weights: _rename(weights, old, new))
    _refused(llama.base, folder, "does not fit .*is not a matrix of that model")


@pytest.mark.parametrize(("side", "shape"), [("A", (4, 32)), ("B", (128, 4))])
def test_wrong_shape(llama: Tuned, folder: Path, side: str, shape: tuple[int, int]) -> None:
    _spoil(folder, lambda weights: weights.update({Q.format(side): np.ones(shape, np.float32)}))
    _refused(llama.base, folder, r"does not fit .*q_proj is \(")


def test_base_that_is_damaged(llama: Tuned, folder: Path) -> None:
    cut = folder.parent / "cut.gguf"
    cut.write_bytes(llama.base.read_bytes()[:100_000])
    _refused(cut, folder, "damaged or cut off", folder_too=False)
    _refused(folder.parent / "absent.gguf", folder, "no model file at", folder_too=False)


def test_another_architecture(folder: Path) -> None:
    base = folder.parent / "other.gguf"
    _write_gguf(base, "gpt2")
    _refused(base, folder, "does not fit .*is not a matrix of that model", folder_too=False)


def test_base_with_head_counts_that_make_no_sense(folder: Path) -> None:
    base = folder.parent / "headless.gguf"
    _write_gguf(base, "llama")
    _spoil(folder, _keep_queries)
    _refused(base, folder, "lacks llama.attention.head_count", folder_too=False)
    _write_gguf(base, "llama", heads=3)
    _refused(base, folder, "64 rows for 3 heads", folder_too=False)


def _keep_queries(weights: Weights) -> None:
    for name in [name for name in weights if "q_proj" not in name]:
        del weights[name]


def _write_gguf(path: Path, architecture: str, heads: int = 0) -> None:
    """A file with the queries of the adapter's base in it and hardly any metadata."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(3)
    if heads:
        writer.add_head_count(heads)
    for layer in range(3):
        writer.add_tensor(f"blk.{layer}.attn_q.weight", np.zeros((64, 64), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_update_beyond_half_precision(llama: Tuned, folder: Path) -> None:
    _spoil(folder, lambda weights: weights[Q.format("B")].__imul__(1e8))
    adapter, target = read_adapter(folder), folder.parent / "out"
    for write in (write_merged_safetensors, _merge):
        with pytest.raises(FixableError, match=r"beyond half precision.*learning_rate"):
            write(llama.base, adapter, target)
        assert list(folder.parent.iterdir()) == [folder]


def _merge(base: Path, adapter: Any, target: Path) -> None:
    merge_into_gguf(base, adapter, target, lambda *_: None)
